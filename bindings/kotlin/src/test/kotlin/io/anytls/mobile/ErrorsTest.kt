package io.anytls.mobile

import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestInstance
import java.nio.file.Files

/** Every error that an app can bring about. What becomes of the descriptors stands here too. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class ErrorsTest {
    private val server = Server()
    private val config = config(server.port)

    @AfterAll
    fun close() = server.close()

    @Test
    fun `a start with a bad config fails and closes the TUN`() = withFresh { tunnel, tun ->
        val bad = config(server.port, server = """"heartbeat": 1, "max_sessions": "many"""")
        val error = assertFails<TunnelException.Config>("config", isRetryable = false) { tunnel.start(bad, tun.fd) }
        val errors = error.problems.filter { it.severity == Severity.ERROR }
        assertEquals(setOf("server.heartbeat", "server.max_sessions"), errors.map { it.path }.toSet())
        assertFalse(tun.isHeld)
        assertEquals(TunnelState.Stopped, tunnel.state())
    }

    @Test
    fun `a start without a descriptor fails`() = withFresh { tunnel, tun ->
        Libc.close(tun.fd)
        for (number in listOf(-1, tun.fd, Int.MAX_VALUE)) {
            assertFails<TunnelException.Descriptor>("descriptor", isRetryable = false) {
                tunnel.start(config, number)
            }
        }
        assertEquals(TunnelState.Stopped, tunnel.state())
    }

    @Test
    fun `a start with a file that nobody can wait for fails and closes it`() = withFresh { tunnel, _ ->
        val path = Files.createTempFile("no-tun", null)
        val fd = Libc.open(path.toString(), O_RDWR or O_CLOEXEC)
        assertFails<TunnelException.Tun>("tun", isRetryable = false) { tunnel.start(config, fd) }
        assertEquals(emptyList<Int>(), holdersOf("$path"))
        Files.delete(path)
    }

    @Test
    fun `a second start fails, closes its TUN and leaves the first alone`() = withTunnel(config) {
        PacketTun().use { second ->
            assertFails<TunnelException.AlreadyStarted>("already_started", isRetryable = false) {
                tunnel.start(config, second.fd)
            }
            assertFalse(second.isHeld)
        }
        tun.send(Packets.ping("172.19.0.1", "192.0.2.1", byteArrayOf(1)))
        tun.receive()
    }

    @Test
    fun `a start with certificates that are not there fails and closes the TUN`() = withFresh { tunnel, tun ->
        val bad = config(server.port, tls = """"certificate_path": "/nowhere/ca.pem"""")
        assertFails<TunnelException.TlsSettings>("tls_settings", isRetryable = false) { tunnel.start(bad, tun.fd) }
        assertFalse(tun.isHeld)
    }

    @Test
    fun `a start without descriptors left fails and closes the TUN`() = withTunnel(config) {
        tunnel.stop()
        fun start(fd: Int) = refusalOf { tunnel.start(config, fd) }
        start(-1) // all that it needs is loaded now
        val error = eventually("nobody else closes some meanwhile") {
            PacketTun().use { tun ->
                val refusal = withoutFreeDescriptors { start(tun.fd) }
                tunnel.stop()
                waitUntil("the TUN is let go") { !tun.isHeld }
                refusal
            }
        }
        assertFails<TunnelException.Resources>("resources", isRetryable = true) { throw error }
        assertEquals(TunnelState.Stopped, tunnel.state())
    }

    @Test
    fun `a reload with what cannot change fails and changes nothing`() = withTunnel(config) {
        assertFails<TunnelException.TunSettings>("tun_settings", isRetryable = false) {
            tunnel.reload(config(server.port, tun = """"mtu": 1400"""))
        }
        assertFails<TunnelException.Config>("config", isRetryable = false) { tunnel.reload("{}") }
        assertFails<TunnelException.TlsSettings>("tls_settings", isRetryable = false) {
            tunnel.reload(config(server.port, tls = """"certificate_path": "/nowhere/ca.pem""""))
        }
        ears.awaitState<TunnelState.Connected>()
        tunnel.reload(config)
    }

    @Test
    fun `a tunnel that is off does nothing but say so`() = withTunnel(config) {
        tunnel.stop()
        assertFails<TunnelException.NotStarted>("not_started", isRetryable = false) { tunnel.reload(config) }
        assertFails<TunnelException.NotStarted>("not_started", isRetryable = false) {
            tunnel.testLatency("127.0.0.1:80")
        }
        val socket = StreamPair()
        assertFails<TunnelException.NotStarted>("not_started", isRetryable = false) {
            tunnel.connectStream(socket.fd, "127.0.0.1:80")
        }
        assertFalse(socket.isHeld)
        assertFalse(tunnel.closeConnection(1uL))
        assertEquals(0, tunnel.sessions().size + tunnel.connections().size)
    }

    @Test
    fun `a stream without a socket fails and closes what it was given`() = withTunnel(config) {
        assertFails<TunnelException.Descriptor>("descriptor", isRetryable = false) {
            tunnel.connectStream(-1, "127.0.0.1:80")
        }
        val pipe = IntArray(2).also(Libc::pipe)
        assertFails<TunnelException.Descriptor>("descriptor", isRetryable = false) {
            tunnel.connectStream(pipe[1], "127.0.0.1:80")
        }
        assertEquals(listOf(pipe[0]), holdersOf(fileOf(pipe[0])))
        Libc.close(pipe[0])
        val packets = PacketTun()
        assertFails<TunnelException.Descriptor>("descriptor", isRetryable = false) {
            tunnel.connectStream(packets.fd, "127.0.0.1:80")
        }
        assertFalse(packets.isHeld)
        packets.close()
    }

    @Test
    fun `a destination is a host and a port`() = withTunnel(config) {
        for (text in listOf("", "name.example", "name.example:", "name.example:70000", ":80")) {
            val socket = StreamPair()
            assertFails<TunnelException.Destination>("destination", isRetryable = false) {
                tunnel.connectStream(socket.fd, text)
            }
            assertFalse(socket.isHeld) { text }
            assertFails<TunnelException.Destination>("destination", isRetryable = false) { tunnel.testLatency(text) }
        }
    }

    @Test
    fun `a server that is not there is said to refuse`() = withTunnel(config(deadPort())) {
        assertDialFails("dial.refused", isRetryable = true)
    }

    @Test
    fun `a wrong password is the user's to change`() = withTunnel(config(server.port, password = "wrong")) {
        assertDialFails("dial.authentication", isRetryable = false)
        val state = ears.awaitState<TunnelState.Reconnecting>()
        assertFailure(state.failure, "dial.authentication", isRetryable = false)
    }

    @Test
    fun `a certificate of nobody's is not trusted`() = withTunnel(config(server.port, tls = "")) {
        assertDialFails("dial.certificate", isRetryable = false)
    }

    @Test
    fun `a server that says nothing is given up in time`() {
        SilentPort().use { port ->
            withTunnel(config(port.port, server = """"connect_timeout": "1s"""")) {
                assertDialFails("dial.timeout", isRetryable = true)
            }
        }
    }

    @Test
    fun `a destination that the server cannot reach is refused`() = withTunnel(config) {
        assertFails<TunnelException.Refused>("refused", isRetryable = true) {
            tunnel.testLatency("127.0.0.1:${deadPort()}")
        }
    }

    @Test
    fun `without a network nothing is tried`() = withTunnel(config) {
        tunnel.networkChanged(null)
        ears.awaitState<TunnelState.WaitingForNetwork>()
        assertFails<TunnelException.Offline>("offline", isRetryable = true) { tunnel.testLatency("127.0.0.1:80") }
    }

    private suspend fun Rig.assertDialFails(code: String, isRetryable: Boolean) {
        val error = assertFails<TunnelException.Dial>(code, isRetryable) { tunnel.testLatency("127.0.0.1:80") }
        assertEquals(error.failure, error.failure())
    }

    private fun withFresh(body: suspend (Tunnel, PacketTun) -> Unit) = runBlocking {
        Tunnel(null).use { tunnel -> PacketTun().use { tun -> body(tunnel, tun) } }
    }

    private fun refusalOf(call: suspend () -> Unit): TunnelException? = try {
        runBlocking { call() }
        null
    } catch (error: TunnelException) {
        error
    }

    /** Lets nobody in this process open anything meanwhile, unless somebody closes something. */
    private fun <T> withoutFreeDescriptors(body: () -> T): T {
        val limits = LongArray(2).also { Libc.getrlimit(RLIMIT_NOFILE, it) }
        val used = descriptors().toSet()
        val firstFree = generateSequence(0) { it + 1 }.first { it !in used }
        Libc.setrlimit(RLIMIT_NOFILE, longArrayOf(firstFree.toLong(), limits[1]))
        try {
            return body()
        } finally {
            Libc.setrlimit(RLIMIT_NOFILE, limits)
        }
    }
}
