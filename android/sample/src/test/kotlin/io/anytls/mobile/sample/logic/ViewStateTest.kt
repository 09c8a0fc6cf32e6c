package io.anytls.mobile.sample.logic

import io.anytls.mobile.ConfigProblem
import io.anytls.mobile.ConnectionInfo
import io.anytls.mobile.ConnectionKind
import io.anytls.mobile.ConnectionPhase
import io.anytls.mobile.Failure
import io.anytls.mobile.LatencyReport
import io.anytls.mobile.SessionInfo
import io.anytls.mobile.Severity
import io.anytls.mobile.TunnelState
import io.anytls.mobile.android.VpnFailure
import io.anytls.mobile.android.VpnState
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import java.time.Duration

class ViewStateTest {
    private val failure = Failure("dial.timeout", true, "The server does not answer.", "for developers")

    @Test
    fun the_switch_stands_where_the_user_put_it_last() {
        assertFalse(view(VpnState.Stopped).isOn)
        assertTrue(view(VpnState.Starting).isOn)
        assertTrue(view(VpnState.Up(TunnelState.WaitingForNetwork)).isOn)
        assertTrue(view(VpnState.Up(TunnelState.Failed(failure, isTrafficBlocked = true))).isOn)
        assertFalse(view(VpnState.Stopping).canSwitch)
        assertFalse(view(VpnState.Failed(VpnFailure.Revoked)).isOn)
    }

    @Test
    fun connected_is_good_and_needs_no_more_words() {
        val connected = ViewState(Tone.GOOD, "Connected", "", isOn = true, canSwitch = true)

        assertEquals(connected, view(VpnState.Up(TunnelState.Connected)))
    }

    @Test
    fun without_a_config_it_says_so() {
        assertEquals(Texts.ADD_A_CONFIG, ViewState.of(Seen(VpnState.Stopped, 0), 0, hasConfig = false).detail)
        assertEquals("", ViewState.of(Seen(VpnState.Stopped, 0), 0, hasConfig = true).detail)
        assertEquals(Texts.ADD_A_CONFIG, view(VpnState.Failed(VpnFailure.NoConfig)).detail)
    }

    @Test
    fun the_time_to_the_next_try_runs_down() {
        val seen = Seen(VpnState.Up(TunnelState.Reconnecting(2u, Duration.ofMillis(4500), failure)), atMs = 10_000)
        fun retry(nowMs: Long) = ViewState.of(seen, nowMs, hasConfig = true).detail.lines()

        assertEquals(
            listOf("The server does not answer. (dial.timeout)", "2 tries have failed, the next one is in 5 s."),
            retry(10_000),
        )
        assertEquals("2 tries have failed, the next one is in 4 s.", retry(10_500)[1])
        assertEquals("2 tries have failed, the next one is in 1 s.", retry(14_499)[1])
        assertEquals("2 tries have failed, the next one is due.", retry(14_500)[1])
        assertEquals("2 tries have failed, the next one is due.", retry(99_000)[1])
    }

    @Test
    fun a_bad_config_is_told_with_every_problem() {
        val problems = listOf(
            ConfigProblem(Severity.ERROR, "server.password", "required"),
            ConfigProblem(Severity.WARNING, "", "odd"),
        )

        assertEquals(
            listOf("The configuration has errors.", "Error: server.password: required", "Warning: odd"),
            view(VpnState.Failed(VpnFailure.BadConfig(problems))).detail.lines(),
        )
    }

    @Test
    fun a_blocked_network_and_apps_that_are_gone_are_told() {
        val blocked = view(VpnState.Up(TunnelState.Failed(failure, isTrafficBlocked = true)))
        val free = view(VpnState.Up(TunnelState.Failed(failure, isTrafficBlocked = false)))
        val skipped = view(VpnState.Up(TunnelState.Connected, skippedApps = setOf("com.gone")))

        assertTrue(blocked.detail.endsWith(Texts.TRAFFIC_BLOCKED))
        assertFalse(free.detail.contains(Texts.TRAFFIC_BLOCKED))
        assertEquals("1 of the chosen apps is not installed.", skipped.detail)
    }

    @Test
    fun what_a_developer_reads_is_not_for_the_screen() {
        val states = listOf(
            VpnState.Failed(VpnFailure.Core(failure)),
            VpnState.Up(TunnelState.Degraded(failure)),
            VpnState.Up(TunnelState.Failed(failure, isTrafficBlocked = true)),
        )
        for (state in states) {
            assertTrue("$state", view(state).detail.startsWith("The server does not answer. (dial.timeout)"))
            assertFalse("$state", view(state).detail.contains(failure.detail))
        }
    }

    @Test
    fun before_anything_is_counted_nothing_is_claimed() {
        assertEquals(TrafficView("", "", ""), TrafficView.of(null, null))
    }

    @Test
    fun sessions_and_connections_are_lines_the_newest_first() {
        val session = SessionInfo(
            seq = 1u,
            age = Duration.ofMinutes(125),
            silent = Duration.ZERO,
            idle = null,
            roundTrip = ms(23),
            streams = 2u,
            serverVersion = 2u,
            sentBytes = 1500u,
            receivedBytes = 3_000_000u,
            paddingBytes = 0u,
            heartbeatsSent = 0u,
            heartbeatsAnswered = 0u,
        )
        val idle = session.copy(seq = 2u, idle = Duration.ofSeconds(7))
        val opening =
            ConnectionInfo(4u, ConnectionKind.TCP, "example.com:443", ConnectionPhase.OPENING, ms(1000), 0u, 0u)
        val open = opening.copy(id = 5u, kind = ConnectionKind.UDP, phase = ConnectionPhase.OPEN, upBytes = 10u)

        assertEquals(
            listOf(
                Row("Session 2, idle for 7 s", "round trip 23 ms · 2 h 5 min old · ↑ 1.5 kB · ↓ 3.0 MB"),
                Row("Session 1, 2 streams", "round trip 23 ms · 2 h 5 min old · ↑ 1.5 kB · ↓ 3.0 MB"),
            ),
            sessionRows(listOf(session, idle)),
        )
        assertEquals(
            listOf(
                Row("UDP example.com:443", "1 s · ↑ 10 B · ↓ 0 B", 5u),
                Row("TCP example.com:443", "opening · ↑ 0 B · ↓ 0 B", 4u),
            ),
            connectionRows(listOf(opening, open)),
        )
    }

    @Test
    fun a_measurement_is_told_in_words() {
        val report = LatencyReport(ms(12), ms(31), ms(1250), ms(20))

        assertEquals("TCP 12 ms, TLS 31 ms. The first connection takes 1.3 s, another one 20 ms.", describe(report))
    }

    @Test
    fun numbers_have_three_digits_at_most() {
        val numbers = listOf(0L, 999, 1000, 99_949, 99_950, 999_499, 999_500, 1_234_567, Long.MAX_VALUE)

        assertEquals(
            listOf("0 B", "999 B", "1.0 kB", "99.9 kB", "100 kB", "999 kB", "1.0 MB", "1.2 MB", "9.2 EB"),
            numbers.map(Format::bytes),
        )
        assertEquals("9.2 EB", Format.bytes(ULong.MAX_VALUE))
    }

    private fun view(state: VpnState) = ViewState.of(Seen(state, 0), 0, hasConfig = true)

    private fun ms(count: Long): Duration = Duration.ofMillis(count)
}
