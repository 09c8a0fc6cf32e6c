package io.anytls.mobile.android

import android.app.Notification
import android.content.ComponentName
import android.content.ContextWrapper
import android.content.Intent
import io.anytls.mobile.TunnelState
import io.anytls.mobile.testing.FakeVpn
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import java.net.InetAddress
import java.net.InetSocketAddress
import java.nio.channels.ServerSocketChannel

/** What goes wrong, and what is told of it. */
class FailureTest : ServerTest() {
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

    private companion object {
        const val CONFIG_WITHOUT_ITS_FILE = """{ "server": {
            "server": "127.0.0.1", "password": "secret", "tls": { "certificate_path": "/nonexistent.pem" } } }"""
    }
}
