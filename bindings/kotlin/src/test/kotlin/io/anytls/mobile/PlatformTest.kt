package io.anytls.mobile

import com.sun.jna.LastErrorException
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestInstance
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicBoolean

/** What the tunnel asks the app to do. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class PlatformTest {
    private val server = Server()

    @AfterAll
    fun close() = server.close()

    @Test
    fun `a socket is protected before it connects`() {
        val seen = LinkedBlockingQueue<String>()
        val platform = AppPlatform(protectSocket = { socket -> seen.add(describe(socket)) })
        withTunnel(config(server.port), platform) {
            ears.awaitState<TunnelState.Connected>()
            assertEquals("a socket that is not connected", seen.poll(PATIENCE_SECONDS, TimeUnit.SECONDS))
        }
    }

    @Test
    fun `a socket that the app does not protect never connects`() = withoutPrintedErrors {
        val refusals = mapOf<String, (Int) -> Boolean>(
            "false" to { false },
            "an exception of the callback's own" to { throw CallbackException.Failed("no service: $REASON") },
            "any exception" to { error("no service: $REASON") },
            "an error of the machine's" to { throw StackOverflowError("on purpose") },
        )
        for ((refusal, protect) in refusals) {
            SilentPort().use { port ->
                withTunnel(config(port.port), AppPlatform(protectSocket = protect)) {
                    val state = ears.awaitState<TunnelState.Reconnecting>()
                    assertFailure(state.failure, "dial.protect", isRetryable = false)
                    val saysWhy = state.failure.detail.contains(REASON)
                    assertEquals(refusal.contains("exception"), saysWhy) { state.failure.detail }
                    val error = assertFails<TunnelException.Dial>("dial.protect", isRetryable = false) {
                        tunnel.testLatency("127.0.0.1:80")
                    }
                    assertEquals("dial.protect", error.failure.code)
                    assertNull(port.accept()) { refusal }
                }
            }
        }
    }

    @Test
    fun `the app finds the server by its name`() {
        val asked = LinkedBlockingQueue<String>()
        val platform = AppPlatform(resolveName = { host -> listOf("127.0.0.1").also { asked.add(host) } })
        withTunnel(config(server.port, host = "vpn.example"), platform) {
            ears.awaitState<TunnelState.Connected>()
            assertEquals("vpn.example", asked.poll(PATIENCE_SECONDS, TimeUnit.SECONDS))
        }
    }

    @Test
    fun `the app may leave a name to the system`() {
        withTunnel(config(server.port, host = "localhost"), AppPlatform(resolveName = { null })) {
            ears.awaitState<TunnelState.Connected>()
        }
    }

    @Test
    fun `a server whose name the app does not find is not reached`() = withoutPrintedErrors {
        val answers = listOf<(String) -> List<String>?>(
            { emptyList() },
            { listOf("no address") },
            { throw CallbackException.Failed("no such name") },
            { error("no such name") },
            { throw StackOverflowError("on purpose") },
        )
        for (resolve in answers) {
            withTunnel(config(server.port, host = "vpn.example"), AppPlatform(resolveName = resolve)) {
                val state = ears.awaitState<TunnelState.Reconnecting>()
                assertFailure(state.failure, "dial.resolve", isRetryable = true)
            }
        }
    }

    @Test
    fun `a platform that begins to answer lets the tunnel connect`() {
        val isReady = AtomicBoolean(false)
        val platform = AppPlatform(protectSocket = { isReady.get() })
        val config = config(server.port, server = """"idle_session_check_interval": "1s"""")
        withTunnel(config, platform) {
            ears.awaitState<TunnelState.Reconnecting>()
            isReady.set(true)
            ears.awaitState<TunnelState.Connected>()
        }
    }

    @Test
    fun `a platform may ask the tunnel how it is doing`() {
        val seen = LinkedBlockingQueue<TunnelState>()
        lateinit var asked: Tunnel
        val platform = AppPlatform(protectSocket = { seen.add(asked.state()).also { asked.stats() } })
        Tunnel(platform).use { tunnel ->
            asked = tunnel
            PacketTun().use { tun ->
                runBlocking {
                    tunnel.start(config(server.port), tun.fd)
                    val state = seen.poll(PATIENCE_SECONDS, TimeUnit.SECONDS)
                    assertTrue(state is TunnelState.Starting || state is TunnelState.Connecting) { "$state" }
                    tunnel.stop()
                }
            }
        }
    }

    private fun describe(fd: Int): String {
        if (!fileOf(fd).startsWith("socket:")) return fileOf(fd)
        return try {
            Libc.getpeername(fd, ByteArray(128), intArrayOf(128))
            "a socket that is connected"
        } catch (error: LastErrorException) {
            if (error.errorCode == ENOTCONN) "a socket that is not connected" else "$error"
        }
    }

    private companion object {
        const val REASON = "what the app says of it"
    }
}
