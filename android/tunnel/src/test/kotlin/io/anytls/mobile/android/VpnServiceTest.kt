package io.anytls.mobile.android

import android.app.Notification
import android.content.ComponentName
import android.content.ContextWrapper
import android.content.Intent
import io.anytls.mobile.TunnelException
import io.anytls.mobile.TunnelState
import io.anytls.mobile.testing.AppSocket
import io.anytls.mobile.testing.FakeVpn
import io.anytls.mobile.testing.Packets
import io.anytls.mobile.testing.TestServer
import io.anytls.mobile.testing.TestTun
import io.anytls.mobile.testing.await
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.async
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import org.junit.After
import org.junit.AfterClass
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeNotNull
import org.junit.BeforeClass
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ServiceController
import java.net.Inet4Address
import java.net.InetAddress
import java.net.InetSocketAddress
import java.net.NetworkInterface
import java.net.ServerSocket
import java.nio.channels.ServerSocketChannel
import java.time.Duration
import java.util.concurrent.CopyOnWriteArrayList
import java.util.concurrent.CountDownLatch

/** The service as Android calls it, with the real core behind it. */
@OptIn(ExperimentalCoroutinesApi::class) // getCompleted
class VpnServiceTest : VpnTest() {
    private val config get() = VpnConfig(server.uri)
    private val background = CoroutineScope(SupervisorJob() + Dispatchers.Default)

    @After
    fun endBackground() = background.cancel()

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
    fun without_consent_there_is_no_vpn() {
        FakeVpn.prepared(false)
        AnyTlsVpn.start(app, config)
        val service = deliverStart()
        awaitFailure<VpnFailure.NotPrepared>()
        assertTrue("nothing was opened", FakeVpn.established.isEmpty())
        awaitLeft(service)
    }

    @Test
    fun all_problems_of_a_bad_config_are_told() {
        AnyTlsVpn.start(app, VpnConfig("""{ "server": { "server": "", "server_port": 0 } }"""))
        deliverStart()
        val paths = awaitFailure<VpnFailure.BadConfig>().problems.map { it.path }
        assertTrue("$paths", paths.containsAll(listOf("server.server", "server.server_port", "server.password")))
        assertTrue("nothing was opened", FakeVpn.established.isEmpty())
    }

    @Test
    fun no_interface_is_a_failure() {
        AnyTlsVpn.start(app, config) // establish() returns null without a TUN
        deliverStart()
        awaitFailure<VpnFailure.NotEstablished>()
    }

    @Test
    fun an_interface_that_the_system_refuses_is_a_failure() {
        FakeVpn.establishError = SecurityException("not the owner")
        AnyTlsVpn.start(app, config)
        deliverStart()
        assertTrue("not the owner" in awaitFailure<VpnFailure.NotEstablished>().reason)
    }

    @Test
    fun revoked_by_the_user_it_ends() {
        val tun = nextTun()
        AnyTlsVpn.start(app, config)
        val service = deliverStart()
        awaitTunnel<TunnelState.Connected>()

        service.get().onRevoke()
        awaitFailure<VpnFailure.Revoked>()
        tun.awaitClosed()
        awaitLeft(service)
    }

    @Test
    fun a_socket_that_cannot_be_protected_never_connects() {
        ServerSocketChannel.open().use { listener ->
            listener.bind(InetSocketAddress(InetAddress.getLoopbackAddress(), 0)).configureBlocking(false)
            val port = (listener.localAddress as InetSocketAddress).port
            FakeVpn.protects = { false }
            nextTun()
            AnyTlsVpn.start(app, VpnConfig("anytls://secret@127.0.0.1:$port/?insecure=1"))
            deliverStart()
            assertEquals("dial.protect", awaitTunnel<TunnelState.Reconnecting>().failure.code)
            assertTrue(FakeVpn.protected.isNotEmpty())
            assertNull("nobody has connected", listener.accept())
        }
    }

    @Test
    fun an_exception_while_protecting_is_a_refusal() {
        FakeVpn.protects = { throw IllegalStateException("the system has died") }
        nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        assertEquals("dial.protect", awaitTunnel<TunnelState.Reconnecting>().failure.code)
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
    fun a_new_service_waits_for_the_one_before() {
        val first = nextTun()
        AnyTlsVpn.start(app, config)
        val service = deliverStart()
        awaitTunnel<TunnelState.Connected>()

        destroy(service)
        val second = nextTun()
        restart()
        awaitState("up again") { it is VpnState.Up && FakeVpn.established.size == 2 }
        first.awaitClosed()
        awaitTunnel<TunnelState.Connected>()
        echo(second)
    }

    @Test
    fun a_core_that_does_not_start_gives_the_interface_back() {
        val tun = nextTun()
        AnyTlsVpn.start(app, VpnConfig(CONFIG_WITHOUT_ITS_FILE))
        deliverStart()
        assertEquals("tls_settings", awaitFailure<VpnFailure.Core>().failure.code)
        tun.awaitClosed()
    }

    @Test
    fun restarted_without_a_config_it_says_so() {
        restart()
        awaitFailure<VpnFailure.NoConfig>()
    }

    @Test
    fun a_bad_config_does_not_take_the_place_of_a_good_one() {
        nextTun()
        AnyTlsVpn.start(app, config)
        kill(deliverStart().also { awaitTunnel<TunnelState.Connected>() })
        AnyTlsVpn.start(app, VpnConfig("nonsense"))
        kill(deliverStart().also { awaitFailure<VpnFailure.BadConfig>() })

        nextTun()
        restart()
        awaitTunnel<TunnelState.Connected>()
    }

    @Test
    fun stopping_twice_and_before_the_start_is_fine() {
        AnyTlsVpn.stop()
        assertEquals(VpnState.Stopped, state)
        nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitState("up") { it is VpnState.Up }
        AnyTlsVpn.stop()
        AnyTlsVpn.stop()
        awaitState("stopped") { it == VpnState.Stopped }
    }

    @Test
    fun a_start_that_is_called_off_on_the_way_opens_nothing() {
        nextTun()
        AnyTlsVpn.start(app, config)
        AnyTlsVpn.stop()
        assertEquals(VpnState.Stopped, state)
        val service = deliverStart()
        awaitLeft(service)
        assertTrue(FakeVpn.established.isEmpty())
    }

    @Test
    fun another_config_is_followed_without_opening_anything() {
        val tun = nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.Connected>()
        val before = AnyTlsVpn.sessions().map { it.seq }

        AnyTlsVpn.start(app, VpnConfig(server.uri("localhost"))) // another way to the server
        FakeVpn.names["localhost"] = listOf(InetAddress.getLoopbackAddress())
        deliverStart()
        await("the sessions by the old config to end") { AnyTlsVpn.sessions().none { it.seq in before } }
        assertEquals(1, FakeVpn.established.size)
        echo(tun)
    }

    @Test
    fun other_options_take_another_interface() {
        val first = nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.Connected>()

        val second = nextTun()
        val seen = CopyOnWriteArrayList<VpnState>()
        background.launch(Dispatchers.Unconfined) { AnyTlsVpn.state.collect { seen += it } }
        AnyTlsVpn.start(app, config.copy(options = VpnOptions(isBypassAllowed = true)))
        deliverStart()
        first.awaitClosed()
        awaitTunnel<TunnelState.Connected>()
        assertFalse("$seen", VpnState.Stopping in seen)
        assertEquals(listOf(false, true), FakeVpn.established.map { it.allowBypass })
        echo(second)
    }

    @Test
    fun a_config_that_cannot_be_used_leaves_the_vpn_as_it_is() {
        val tun = nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.Connected>()

        val outcome = inBackground { AnyTlsVpn.startAndAwait(app, VpnConfig("{}")) }
        awaitRequest()
        deliverStart()
        await("an outcome") { outcome.isCompleted }
        assertTrue(((outcome.getCompleted() as VpnState.Failed).cause is VpnFailure.BadConfig))
        assertTrue("$state", state is VpnState.Up)
        echo(tun)
    }

    @Test
    fun waiting_for_start_and_stop() {
        val tun = nextTun()
        val up = inBackground { AnyTlsVpn.startAndAwait(app, config) }
        awaitRequest()
        deliverStart()
        await("an outcome") { up.isCompleted }
        assertTrue("${up.getCompleted()}", up.getCompleted() is VpnState.Up)

        val down = inBackground { AnyTlsVpn.stopAndAwait() }
        await("the stop to return") { down.isCompleted }
        assertEquals(VpnState.Stopped, state)
        tun.awaitClosed()
    }

    @Test
    fun a_start_that_is_cancelled_turns_the_vpn_off() {
        nextTun()
        val up = inBackground { AnyTlsVpn.startAndAwait(app, config) }
        awaitRequest()
        up.cancel()
        awaitState("stopped") { it == VpnState.Stopped }
        val service = deliverStart()
        awaitLeft(service)
        assertTrue(FakeVpn.established.isEmpty())
    }

    @Test
    fun an_interface_that_is_lost_ends_the_vpn() {
        val tun = nextTun()
        AnyTlsVpn.start(app, config)
        val service = deliverStart()
        awaitTunnel<TunnelState.Connected>()
        tun.hangUp()
        assertEquals("tunnel.ended", awaitFailure<VpnFailure.Core>().failure.code)
        awaitLeft(service)
    }

    @Test
    fun the_end_of_a_run_that_was_replaced_is_no_failure() {
        val first = nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        awaitTunnel<TunnelState.Connected>()

        val second = nextTun()
        val isReplaced = CountDownLatch(1)
        FakeVpn.establishes = { isReplaced.await() }
        AnyTlsVpn.start(app, config.copy(options = VpnOptions(isBypassAllowed = true)))
        deliverStart()
        await("another interface") { FakeVpn.established.size == 2 }
        first.hangUp() // Android takes the old one down
        await("the core to notice") { AnyTlsVpn.shared.core.value?.state() is TunnelState.Failed }
        isReplaced.countDown()
        val outcome = inBackground { AnyTlsVpn.startAndAwait(app) } // carried out after whatever is left of the first
        awaitRequest()
        deliverStart()
        await("an outcome") { outcome.isCompleted }
        assertTrue("${outcome.getCompleted()}", outcome.getCompleted() is VpnState.Up)
        awaitTunnel<TunnelState.Connected>()
        echo(second)
    }

    @Test
    fun a_service_that_is_not_started_yet_does_not_leave() {
        AnyTlsVpn.start(app, config)
        val service = create() // and Android has not passed the start on
        val down = inBackground { AnyTlsVpn.stopAndAwait() }
        await("the stop to return") { down.isCompleted }
        assertEquals("a start that is never answered is a crash", 0, shadowOf(service.get()).stopSelfResultId)
        deliverStart()
        awaitLeft(service)
        assertEquals(VpnState.Stopped, state)
    }

    @Test
    fun a_second_tap_does_not_hide_a_failure() {
        val first = inBackground { AnyTlsVpn.startAndAwait(app, config) }
        awaitRequest()
        AnyTlsVpn.start(app, VpnConfig("nonsense"))
        deliverStart()
        awaitFailure<VpnFailure.BadConfig>()
        awaitLeft(deliverStart())
        awaitFailure<VpnFailure.BadConfig>()
        await("an outcome") { first.isCompleted }
        assertEquals("of the start that has replaced it", state, first.getCompleted())
    }

    @Test
    fun a_service_that_goes_amid_a_start_leaves_nothing_behind() {
        val tun = nextTun()
        val isGone = CountDownLatch(1)
        FakeVpn.establishes = { isGone.await() }
        AnyTlsVpn.start(app, config)
        val service = deliverStart()
        await("an interface to be asked for") { FakeVpn.established.isNotEmpty() }
        destroy(service)
        isGone.countDown()
        awaitState("stopped") { it == VpnState.Stopped }
        tun.awaitClosed()
    }

    @Test
    fun waiting_for_a_stop_waits_for_a_service_that_has_gone() {
        val tun = nextTun()
        AnyTlsVpn.start(app, config)
        val service = deliverStart()
        awaitTunnel<TunnelState.Connected>()
        destroy(service)
        val down = inBackground { AnyTlsVpn.stopAndAwait() }
        await("the stop to return") { down.isCompleted }
        assertNull(AnyTlsVpn.shared.core.value)
        tun.awaitClosed()
    }

    @Test
    fun a_service_that_goes_late_leaves_the_next_one_alone() {
        val late = create()
        val next = create()
        val controller = AnyTlsVpn.controller
        destroy(late)
        assertSame(controller, AnyTlsVpn.controller)
        destroy(next)
        assertNull(AnyTlsVpn.controller)
    }

    @Test
    fun hooks_that_throw_are_a_failure() {
        declare(Throwing::class.java)
        nextTun()
        AnyTlsVpn.start(app, config)
        deliverStart()
        assertTrue("a bug of the app's" in awaitFailure<VpnFailure.NotEstablished>().reason)
    }

    class Throwing : AnyTlsVpnService() {
        override fun onInterface(builder: Builder) = error("a bug of the app's")

        override fun onNotification(builder: Notification.Builder, state: VpnState, speed: Speed?) = error("another")
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
    fun an_app_that_declares_no_service_is_told() {
        shadowOf(app.packageManager).removeService(ComponentName(app, AnyTlsVpnService::class.java))
        AnyTlsVpn.start(app, config)
        awaitFailure<VpnFailure.ServiceRefused>()
        assertNull(shadowOf(app).nextStartedService)
    }

    @Test
    fun an_app_in_the_background_is_told() {
        val background = object : ContextWrapper(app) {
            override fun startForegroundService(service: Intent) = error("in the background")
        }
        AnyTlsVpn.start(background, config)
        assertTrue("in the background" in awaitFailure<VpnFailure.ServiceRefused>().reason)
    }

    @Test
    fun questions_to_a_vpn_that_is_off_have_empty_answers() {
        assertTrue(AnyTlsVpn.sessions().isEmpty())
        assertTrue(AnyTlsVpn.connections().isEmpty())
        assertFalse(AnyTlsVpn.closeConnection(1u))
    }

    private fun echo(tun: TestTun) {
        tun.send(Packets.echoRequest(PHONE, HOST, ID, PAYLOAD))
        val reply = tun.receive("an echo reply") { Packets.echoReply(it, ID) != null }
        assertArrayEquals(PAYLOAD, Packets.echoReply(reply, ID))
    }

    private fun awaitLeft(service: ServiceController<out AnyTlsVpnService>) =
        await("the service to leave") { shadowOf(service.get()).run { stopSelfResultId > 0 && isForegroundStopped } }

    private fun awaitRequest() = await("the service to be asked for") { shadowOf(app).peekNextStartedService() != null }

    private fun <T> inBackground(block: suspend () -> T): Deferred<T> = background.async { block() }

    companion object {
        private val PHONE: InetAddress = InetAddress.getByName("172.19.0.1")
        private val HOST: InetAddress = InetAddress.getByName("198.51.100.7")
        private const val CONFIG_WITHOUT_ITS_FILE = """{ "server": {
            "server": "127.0.0.1", "password": "secret", "tls": { "certificate_path": "/nonexistent.pem" } } }"""
        private const val ID = 0x4142
        private val PAYLOAD = "hello from an app".toByteArray()
        private val ANSWER = "and hello to it".toByteArray()

        private lateinit var server: TestServer

        @BeforeClass
        @JvmStatic
        fun startServer() {
            server = TestServer()
        }

        @AfterClass
        @JvmStatic
        fun stopServer() {
            server.close()
        }

        private fun addressOfThisMachine(): InetAddress? = NetworkInterface.networkInterfaces()
            .flatMap { it.inetAddresses() }
            .filter { it is Inet4Address && !it.isLoopbackAddress && !it.isLinkLocalAddress }
            .findFirst().orElse(null)
    }
}
