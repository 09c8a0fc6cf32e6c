package io.anytls.mobile.android

import io.anytls.mobile.TunnelState
import io.anytls.mobile.testing.Packets
import io.anytls.mobile.testing.ServerRule
import io.anytls.mobile.testing.TestTun
import io.anytls.mobile.testing.await
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.async
import kotlinx.coroutines.cancel
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.ClassRule
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ServiceController
import java.net.InetAddress

/** With a server as well, which all tests of a class share. */
abstract class ServerTest : VpnTest() {
    protected val config get() = VpnConfig(server.uri)
    protected val background = CoroutineScope(SupervisorJob() + Dispatchers.Default)

    @After
    fun endBackground() = background.cancel()

    protected fun connect(): ServiceController<out AnyTlsVpnService> {
        nextTun()
        AnyTlsVpn.start(app, config)
        return deliverStart().also { awaitTunnel<TunnelState.Connected>() }
    }

    protected fun echo(tun: TestTun) {
        tun.send(Packets.echoRequest(PHONE, HOST, ID, PAYLOAD))
        val reply = tun.receive("an echo reply") { Packets.echoReply(it, ID) != null }
        assertArrayEquals(PAYLOAD, Packets.echoReply(reply, ID))
    }

    protected fun awaitLeft(service: ServiceController<out AnyTlsVpnService>) =
        await("the service to leave") { shadowOf(service.get()).run { stopSelfResultId > 0 && isForegroundStopped } }

    protected fun awaitRequest() =
        await("the service to be asked for") { shadowOf(app).peekNextStartedService() != null }

    protected fun <T> inBackground(block: suspend () -> T): Deferred<T> = background.async { block() }

    companion object {
        @ClassRule
        @JvmField
        val server = ServerRule()

        val PHONE: InetAddress = InetAddress.getByName("172.19.0.1")
        val PAYLOAD = "hello from an app".toByteArray()
        private val HOST: InetAddress = InetAddress.getByName("198.51.100.7")
        private const val ID = 0x4142
    }
}
