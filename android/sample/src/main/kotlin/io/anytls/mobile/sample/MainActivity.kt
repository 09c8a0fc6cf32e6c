package io.anytls.mobile.sample

import android.Manifest
import android.content.ActivityNotFoundException
import android.content.Intent
import android.content.pm.PackageManager
import android.os.Build
import android.os.Bundle
import android.os.SystemClock
import android.widget.Button
import android.widget.ScrollView
import android.widget.Switch
import android.widget.TextView
import io.anytls.mobile.TunnelException
import io.anytls.mobile.TunnelStats
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.android.VpnConfig
import io.anytls.mobile.android.VpnState
import io.anytls.mobile.sample.logic.Seen
import io.anytls.mobile.sample.logic.Texts
import io.anytls.mobile.sample.logic.Tone
import io.anytls.mobile.sample.logic.TrafficView
import io.anytls.mobile.sample.logic.ViewState
import io.anytls.mobile.sample.logic.describe
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch

/** The switch, and how things are. */
class MainActivity : Screen() {
    internal lateinit var switch: Switch
    internal lateinit var headline: TextView
    internal lateinit var detail: TextView
    internal lateinit var server: TextView
    internal lateinit var apps: TextView
    internal lateinit var graph: SpeedGraph
    internal lateinit var speed: TextView
    internal lateinit var totals: TextView
    internal lateinit var counts: TextView
    internal lateinit var test: Button
    internal lateinit var latency: TextView

    /** What the server is asked to connect to in a latency test. */
    internal var destination = "www.gstatic.com:80"

    /** Taken for granted until the store has answered. */
    private var hasConfig = true
    private var stats: TunnelStats? = null

    /** Where the user said no to the VPN: that is told until the state is another one. */
    private var refusedIn: Seen? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        build()
    }

    private fun build() {
        headline = label(sizeSp = HEADLINE_SP, isBold = true)
        detail = label()
        switch = Switch(this).apply {
            text = Texts.VPN
            textSize = SWITCH_SP
            // Not for changes: render() makes some, too.
            setOnClickListener { if (isChecked) scope.launch { turnOn() } else AnyTlsVpn.stop() }
        }
        server = label()
        apps = label()
        graph = SpeedGraph(this)
        speed = label(isBold = true)
        totals = label()
        counts = label()
        test = button(Texts.TEST) { scope.launch { test() } }
        latency = label().apply { show("") }
        val content = column(
            headline,
            detail,
            switch,
            server,
            apps,
            graph,
            speed,
            totals,
            counts,
            test,
            latency,
            button(Texts.CONFIG) { open(ConfigActivity::class.java) },
            button(Texts.APPS) { open(AppsActivity::class.java) },
            button(Texts.TRAFFIC) { open(TrafficActivity::class.java) },
            button(Texts.LOG) { open(LogActivity::class.java) },
        )
        show(ScrollView(this).apply { addView(content.padded()) })
        render()
    }

    override suspend fun CoroutineScope.whileVisible() {
        val config = savedConfig()
        server.text = describe(config)
        apps.show(config?.let { describe(it.options.apps) }.orEmpty())
        launch { app.seen.collect { render() } }
        launch {
            AnyTlsVpn.stats.collect {
                app.speeds.add(it.traffic, SystemClock.elapsedRealtime())
                stats = it
                render()
            }
        }
        while (true) {
            delay(TICK_MS)
            render()
        }
    }

    private suspend fun savedConfig(): VpnConfig? = AnyTlsVpn.savedConfig(this).also { hasConfig = it != null }

    private fun render() {
        val nowMs = SystemClock.elapsedRealtime()
        val seen = app.seen.value
        val isUp = seen.state is VpnState.Up
        val view = ViewState.of(seen, nowMs, hasConfig)
        headline.text = view.headline
        headline.setTextColor(color(view.tone) ?: detail.currentTextColor)
        detail.show(if (seen == refusedIn) Texts.NOT_ALLOWED else view.detail)
        switch.isChecked = view.isOn
        switch.isEnabled = view.canSwitch
        test.isEnabled = isUp
        if (!isUp) {
            app.speeds.clear()
            stats = null
        }
        val traffic = TrafficView.of(stats, app.speeds.current)
        speed.show(traffic.speed)
        totals.show(traffic.totals)
        counts.show(traffic.counts)
        graph.data = app.speeds.graph(nowMs)
    }

    private suspend fun turnOn() {
        if (savedConfig() == null) {
            render()
            return open(ConfigActivity::class.java)
        }
        val consent = AnyTlsVpn.prepare(this) ?: return start()
        try {
            @Suppress("DEPRECATION") // its successor is in androidx
            startActivityForResult(consent, CONSENT)
        } catch (_: ActivityNotFoundException) { // a phone without VPNs
            refused()
        }
    }

    @Deprecated("Android's word for: use androidx")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        if (requestCode != CONSENT) return
        if (resultCode == RESULT_OK) start() else refused()
    }

    private fun refused() {
        refusedIn = app.seen.value
        render()
    }

    private fun start() {
        AnyTlsVpn.start(this)
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU) return
        // The VPN runs without, but its notification is not seen. Android asks the user twice at most.
        val permission = Manifest.permission.POST_NOTIFICATIONS
        if (checkSelfPermission(permission) == PackageManager.PERMISSION_GRANTED) return
        requestPermissions(arrayOf(permission), 0)
    }

    private suspend fun test() {
        test.isEnabled = false
        latency.show(Texts.TESTING)
        latency.show(
            try {
                describe(AnyTlsVpn.testLatency(destination))
            } catch (e: TunnelException) {
                e.failure().userMessage
            },
        )
        render()
    }

    private fun open(screen: Class<out Screen>) {
        startActivity(Intent(this, screen))
    }

    /** Null: that of other words. */
    private fun color(tone: Tone): Int? = when (tone) {
        Tone.OFF, Tone.BUSY -> null
        Tone.GOOD -> GREEN
        Tone.TROUBLE -> RED
    }

    private companion object {
        const val CONSENT = 1
        const val TICK_MS = 1000L
        const val HEADLINE_SP = 24f
        const val SWITCH_SP = 20f

        // Read on black and on white.
        const val GREEN = 0xFF388E3C.toInt()
        const val RED = 0xFFE53935.toInt()
    }
}
