package io.anytls.mobile.android

import io.anytls.mobile.TunnelException
import io.anytls.mobile.TunnelState
import io.anytls.mobile.testing.AppSocket
import io.anytls.mobile.testing.FakeVpn
import io.anytls.mobile.testing.await
import kotlinx.coroutines.ExperimentalCoroutinesApi
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeNotNull
import org.junit.Test
import java.net.Inet4Address
import java.net.InetAddress
import java.net.InetSocketAddress
import java.net.NetworkInterface
import java.net.ServerSocket
import java.time.Duration

/** The service as Android calls it, with the real core behind it. */
@OptIn(ExperimentalCoroutinesApi::class) // getCompleted
class VpnServiceTest : ServerTest() {
    @Test
    fun packets_are_answered_from_start_to_stop() {
        val tun = nextTun()
        AnyTlsVpn.start(app, config)
        assertEquals(VpnState.Starting, state)
        val service = deliverStart()
        awaitTunnel<TunnelState.Connected>()

        echo(tun)
        assertTrue("sockets are protected", FakeVpn.protected.isNotEmpty())

        AnyTlsVpn.stop()
        awaitState("stopped") { it == VpnState.Stopped }
        tun.awaitClosed()
        awaitLeft(service)
    }

    @Test
    fun a_tcp_connection_reaches_its_host_through_the_server() {
        val host = addressOfThisMachine()
        assumeNotNull(host) // on a machine that has but a loopback; packets for that are dropped
        val tun = nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()

        ServerSocket(0, 1, host).use { web ->
            val socket = AppSocket(tun, PHONE, InetSocketAddress(host, web.localPort))
            socket.connect()
            web.accept().use { connection ->
                socket.write(PAYLOAD)
                assertArrayEquals(PAYLOAD, connection.getInputStream().readNBytes(PAYLOAD.size))
                connection.getOutputStream().write(ANSWER)
                assertArrayEquals(ANSWER, socket.read(ANSWER.size))
                assertEquals("${host!!.hostAddress}:${web.localPort}", AnyTlsVpn.connections().single().destination)
                assertEquals(1, AnyTlsVpn.sessions().sumOf { it.streams.toInt() })
            }
        }
    }

    @Test
    fun the_servers_name_is_asked_of_the_network_below() {
        FakeVpn.names["vpn.example"] = listOf(InetAddress.getByName("127.0.0.1"))
        nextTun()
        AnyTlsVpn.start(app, VpnConfig(server.uri("vpn.example")))
        deliverStart()
        awaitTunnel<TunnelState.Connected>()
    }

    @Test
    fun the_core_hears_of_networks() {
        nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.Connected>()
        await("the network below to be Wi-Fi") { FakeVpn.underlying == listOf(wifi) }
        val before = AnyTlsVpn.sessions().map { it.seq }

        change(null)
        awaitTunnel<TunnelState.WaitingForNetwork>()
        await("no network below") { FakeVpn.underlying == emptyList<Any>() }

        change(cellular)
        awaitTunnel<TunnelState.Connected>()
        await("the network below to be cellular") { FakeVpn.underlying == listOf(cellular) }
        await("sessions of the new network alone") {
            AnyTlsVpn.sessions().map { it.seq }.run { isNotEmpty() && none { it in before } }
        }
    }

    @Test
    fun started_without_a_network_it_waits_for_one() {
        FakeVpn.network = null
        nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.WaitingForNetwork>()
        change(wifi)
        awaitTunnel<TunnelState.Connected>()
    }

    @Test
    fun killed_and_restarted_it_goes_by_the_config_of_the_last_start() {
        val first = nextTun()
        AnyTlsVpn.start(app, config.copy(options = VpnOptions(session = "mine")))
        kill(deliverStart().also { awaitTunnel<TunnelState.Connected>() })
        first.awaitClosed()
        assertEquals(VpnState.Stopped, state)

        nextTun()
        restart()
        awaitTunnel<TunnelState.Connected>()
        assertEquals(listOf("mine", "mine"), FakeVpn.established.map { it.session })
    }

    @Test
    fun the_server_can_be_measured() {
        nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.Connected>()
        ServerSocket(0, 8, InetAddress.getLoopbackAddress()).use { web ->
            val report = inBackground { AnyTlsVpn.testLatency("127.0.0.1:${web.localPort}") }
            await("a report") { report.isCompleted }
            assertTrue(report.getCompleted().firstStream > Duration.ZERO)
        }
    }

    @Test
    fun a_vpn_that_is_off_cannot_be_measured() {
        val report = inBackground { runCatching { AnyTlsVpn.testLatency() } }
        await("an outcome") { report.isCompleted }
        assertTrue(report.getCompleted().exceptionOrNull() is TunnelException.NotStarted)
    }

    @Test
    fun questions_to_a_vpn_that_is_off_have_empty_answers() {
        assertTrue(AnyTlsVpn.sessions().isEmpty())
        assertTrue(AnyTlsVpn.connections().isEmpty())
        assertFalse(AnyTlsVpn.closeConnection(1u))
    }

    private companion object {
        val ANSWER = "and hello to it".toByteArray()

        fun addressOfThisMachine(): InetAddress? = NetworkInterface.networkInterfaces()
            .flatMap { it.inetAddresses() }
            .filter { it is Inet4Address && !it.isLoopbackAddress && !it.isLinkLocalAddress }
            .findFirst().orElse(null)
    }
}
