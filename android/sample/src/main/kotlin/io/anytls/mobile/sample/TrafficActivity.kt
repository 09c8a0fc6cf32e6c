package io.anytls.mobile.sample

import android.app.AlertDialog
import android.os.Bundle
import android.view.View
import android.view.ViewGroup
import android.widget.ListView
import android.widget.TextView
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.sample.logic.Row
import io.anytls.mobile.sample.logic.Texts
import io.anytls.mobile.sample.logic.connectionRows
import io.anytls.mobile.sample.logic.sessionRows
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.delay

/** The sessions with the server, and the apps' connections; a tap on one of these offers to close it. */
class TrafficActivity : Screen() {
    internal val rows = Rows(::rowView)
    internal lateinit var list: ListView

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        list = ListView(this).apply {
            adapter = rows
            setOnItemClickListener { _, _, position, _ -> offerToClose(rows[position]) }
        }
        show(column(list.fillingTheRest()).padded())
    }

    override suspend fun CoroutineScope.whileVisible() {
        while (true) {
            rows.show(contents())
            delay(TICK_MS)
        }
    }

    private fun contents(): List<Row> {
        val sessions = sessionRows(AnyTlsVpn.sessions())
        val connections = connectionRows(AnyTlsVpn.connections())
        return section(Texts.SESSIONS, sessions) + section(Texts.CONNECTIONS, connections)
    }

    private fun section(title: String, rows: List<Row>): List<Row> {
        val head = Row(title, if (rows.isEmpty()) Texts.NOTHING_OPEN else "")
        return listOf(head) + rows
    }

    private fun rowView(row: Row, old: View?, list: ViewGroup): View {
        val view = old ?: layoutInflater.inflate(android.R.layout.simple_list_item_2, list, false)
        view.findViewById<TextView>(android.R.id.text1)!!.text = row.title
        view.findViewById<TextView>(android.R.id.text2)!!.show(row.detail)
        return view
    }

    private fun offerToClose(row: Row) {
        val id = row.connection ?: return
        AlertDialog.Builder(this)
            .setTitle(Texts.CLOSE_CONNECTION)
            .setMessage(row.title)
            .setPositiveButton(Texts.CLOSE) { _, _ -> AnyTlsVpn.closeConnection(id) }
            .setNegativeButton(Texts.CANCEL, null)
            .show()
    }

    private companion object {
        const val TICK_MS = 1000L
    }
}
