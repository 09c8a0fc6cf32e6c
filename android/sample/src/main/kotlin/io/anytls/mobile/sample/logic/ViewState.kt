package io.anytls.mobile.sample.logic

import io.anytls.mobile.ConfigProblem
import io.anytls.mobile.ConfigSummary
import io.anytls.mobile.Failure
import io.anytls.mobile.LatencyReport
import io.anytls.mobile.Severity
import io.anytls.mobile.TunnelState
import io.anytls.mobile.TunnelStats
import io.anytls.mobile.android.AppFilter
import io.anytls.mobile.android.Speed
import io.anytls.mobile.android.VpnFailure
import io.anytls.mobile.android.VpnState

/** A state, and when it began, by a clock that only goes forward. */
data class Seen(val state: VpnState, val atMs: Long)

/** What a config says about its server; no secret in it. */
data class Server(val name: String?, val address: String) {
    override fun toString(): String = if (name == null) address else "$name ($address)"

    companion object {
        fun of(config: ConfigSummary): Server {
            val host = if (':' in config.serverHost) "[${config.serverHost}]" else config.serverHost
            return Server(config.name?.takeIf { it.isNotBlank() }, "$host:${config.serverPort}")
        }
    }
}

/** How things are, at a glance. */
enum class Tone { OFF, BUSY, GOOD, TROUBLE }

/** What the main screen and the tile show. */
data class ViewState(
    val tone: Tone,
    val headline: String,
    /** More about it, a sentence a line; may be empty. */
    val detail: String,
    /** Where the switch stands. */
    val isOn: Boolean,
    val canSwitch: Boolean,
) {
    companion object {
        fun of(seen: Seen, nowMs: Long, hasConfig: Boolean): ViewState = when (val state = seen.state) {
            VpnState.Stopped -> off(Tone.OFF, Texts.OFF, if (hasConfig) "" else Texts.ADD_A_CONFIG)
            VpnState.Starting -> on(Tone.BUSY, Texts.STARTING)
            VpnState.Stopping -> off(Tone.BUSY, Texts.STOPPING).copy(canSwitch = false)
            is VpnState.Failed -> off(Tone.TROUBLE, Texts.FAILED, detail(state.cause))
            is VpnState.Up -> {
                val view = up(state.tunnel, nowMs - seen.atMs)
                val skipped = state.skippedApps.size
                if (skipped == 0) view else view.copy(detail = lines(view.detail, Texts.skipped(skipped)))
            }
        }
    }
}

private fun up(tunnel: TunnelState, forMs: Long): ViewState = when (tunnel) {
    TunnelState.Stopped, TunnelState.Stopping -> on(Tone.BUSY, Texts.STOPPING)
    TunnelState.Starting, TunnelState.Connecting -> on(Tone.BUSY, Texts.CONNECTING)
    TunnelState.Connected -> on(Tone.GOOD, Texts.CONNECTED)
    TunnelState.WaitingForNetwork -> on(Tone.BUSY, Texts.NO_NETWORK, Texts.GOES_ON_WITH_ONE)
    TunnelState.Paused -> on(Tone.BUSY, Texts.PAUSED, Texts.PHONE_SLEEPS)
    is TunnelState.Degraded -> on(Tone.TROUBLE, Texts.DEGRADED, text(tunnel.failure))
    is TunnelState.Reconnecting -> {
        val leftMs = (tunnel.retryIn.toMillis() - forMs).coerceAtLeast(0)
        // Rounded up: it says 1 s until the try begins.
        val retry = Texts.retry(tunnel.attempt, (leftMs + MS - 1) / MS)
        on(Tone.TROUBLE, Texts.RECONNECTING, lines(text(tunnel.failure), retry))
    }
    is TunnelState.Failed -> {
        val blocked = if (tunnel.isTrafficBlocked) Texts.TRAFFIC_BLOCKED else ""
        on(Tone.TROUBLE, Texts.FAILED, lines(text(tunnel.failure), blocked))
    }
}

private fun on(tone: Tone, headline: String, detail: String = "") =
    ViewState(tone, headline, detail, isOn = true, canSwitch = true)

private fun off(tone: Tone, headline: String, detail: String = "") =
    ViewState(tone, headline, detail, isOn = false, canSwitch = true)

private fun detail(cause: VpnFailure): String = when (cause) {
    VpnFailure.NotPrepared -> Texts.NOT_PREPARED
    VpnFailure.NoConfig -> Texts.ADD_A_CONFIG
    VpnFailure.Revoked -> Texts.REVOKED
    is VpnFailure.BadConfig -> (listOf(cause.message) + problemLines(cause.problems)).joinToString("\n")
    is VpnFailure.ServiceRefused -> cause.message
    is VpnFailure.NotEstablished -> lines(cause.message, cause.reason)
    is VpnFailure.Core -> text(cause.failure)
}

/** The code is for whoever helps the user. */
private fun text(failure: Failure): String = "${failure.userMessage} (${failure.code})"

private fun lines(vararg lines: String): String = lines.filter { it.isNotEmpty() }.joinToString("\n")

private const val MS = 1000L

/** A line for each, as they come: the errors first. */
fun problemLines(problems: List<ConfigProblem>): List<String> = problems.map {
    val kind = when (it.severity) {
        Severity.ERROR -> Texts.ERROR
        Severity.WARNING -> Texts.WARNING
    }
    if (it.path.isEmpty()) "$kind: ${it.reason}" else "$kind: ${it.path}: ${it.reason}"
}

/** What a config would do, for somebody who decides whether to take it; no secret in it. */
fun describe(config: ConfigSummary): List<String> {
    val server = Server.of(config)
    return listOfNotNull(
        server.name?.let { Texts.name(it) },
        Texts.server(server.address),
    ) + problemLines(config.warnings)
}

/** What was counted, in words. */
data class TrafficView(val speed: String, val totals: String, val counts: String) {
    companion object {
        fun of(stats: TunnelStats?, speed: Speed?): TrafficView {
            if (stats == null) return TrafficView("", "", "")
            val traffic = stats.traffic
            val sessions = stats.pool.idleSessions + stats.pool.activeSessions
            return TrafficView(
                Format.speed(speed ?: Speed(0, 0)),
                Texts.totals(Format.bytes(traffic.upBytes), Format.bytes(traffic.downBytes)),
                Texts.counts(sessions, traffic.openConnections),
            )
        }
    }
}

/** The choice of apps in words. */
fun describe(filter: AppFilter): String = when (filter) {
    AppFilter.All -> Texts.ALL_APPS
    is AppFilter.Only -> Texts.onlyApps(filter.packages.size)
    is AppFilter.Except -> Texts.exceptApps(filter.packages.size)
}

/** What a measurement came to. */
fun describe(report: LatencyReport): String = Texts.latency(
    tcp = Format.time(report.tcp),
    tls = Format.time(report.tls),
    first = Format.time(report.firstStream),
    next = Format.time(report.warmStream),
)
