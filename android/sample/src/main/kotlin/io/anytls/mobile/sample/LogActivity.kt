package io.anytls.mobile.sample

import android.content.ClipData
import android.content.ClipboardManager
import android.content.Intent
import android.graphics.Typeface
import android.os.Bundle
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.ListView
import android.widget.Spinner
import android.widget.TextView
import android.widget.Toast
import io.anytls.mobile.LogLevel
import io.anytls.mobile.LogRecord
import io.anytls.mobile.sample.logic.LogFormat
import io.anytls.mobile.sample.logic.Texts
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.delay
import java.time.ZoneId

/** The core's log, which names no destination; the level is both what is logged and what is shown. */
class LogActivity : Screen() {
    internal val rows = Rows<LogRecord> { record, old, _ -> lineView(record, old) }
    internal lateinit var level: Spinner
    internal lateinit var list: ListView

    private val format = LogFormat(ZoneId.systemDefault())

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        level = Spinner(this).apply {
            adapter = ArrayAdapter(this@LogActivity, android.R.layout.simple_spinner_dropdown_item, LEVELS)
            setSelection(LEVELS.indexOf(app.logLevel))
            contentDescription = Texts.LEVEL
            onItemSelectedListener = onSelected { chooseLevel(LEVELS[it]) }
        }
        list = ListView(this).apply {
            adapter = rows
            // Follows the end, unless the user has scrolled away from it.
            transcriptMode = ListView.TRANSCRIPT_MODE_NORMAL
            isStackFromBottom = true
        }
        val buttons = row(
            button(Texts.COPY, ::copy),
            button(Texts.SHARE, ::share),
            button(Texts.CLEAR) { app.log.clear() },
        )
        show(column(level, list.fillingTheRest(), buttons).padded())
    }

    override suspend fun CoroutineScope.whileVisible() {
        app.log.version.collect {
            refresh()
            delay(REFRESH_MS) // what comes meanwhile is shown together
        }
    }

    private fun chooseLevel(level: LogLevel) {
        if (level != app.logLevel) app.logLevel = level
        refresh()
    }

    private fun refresh() {
        rows.show(app.log.records(app.logLevel))
    }

    private fun lineView(record: LogRecord, old: View?): View {
        val view = old as TextView? ?: label(sizeSp = 12f).apply { typeface = Typeface.MONOSPACE }
        view.text = format.line(record)
        return view
    }

    private fun text(): String = format.tail(app.log.records(app.logLevel), MAX_SHARED_CHARS)

    private fun copy() {
        getSystemService(ClipboardManager::class.java)!!.setPrimaryClip(ClipData.newPlainText(Texts.LOG, text()))
        Toast.makeText(this, Texts.COPIED, Toast.LENGTH_SHORT).show()
    }

    private fun share() {
        val send = Intent(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_TEXT, text())
        startActivity(Intent.createChooser(send, Texts.SHARE))
    }

    private companion object {
        val LEVELS = listOf(LogLevel.ERROR, LogLevel.WARN, LogLevel.INFO, LogLevel.DEBUG, LogLevel.TRACE)
        const val REFRESH_MS = 300L

        /** Two bytes each, and the system's buffer for all that apps tell each other has 1 MB. */
        const val MAX_SHARED_CHARS = 200_000
    }
}

private fun onSelected(action: (position: Int) -> Unit) = object : AdapterView.OnItemSelectedListener {
    override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = action(position)

    override fun onNothingSelected(parent: AdapterView<*>?) = Unit
}
