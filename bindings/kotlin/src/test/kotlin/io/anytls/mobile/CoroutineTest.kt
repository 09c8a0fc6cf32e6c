package io.anytls.mobile

import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.cancel
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.joinAll
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestInstance
import java.nio.channels.SocketChannel
import java.nio.file.Files
import java.security.KeyStore
import java.util.Base64
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import javax.net.ssl.TrustManagerFactory
import javax.net.ssl.X509TrustManager
import kotlin.random.Random

/** Calls that are cancelled, that meet each other, and that come in great numbers. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class CoroutineTest {
    private val server = Server()
    private val config = config(server.port)

    /** Threads other than the test's. */
    private val scope = CoroutineScope(Dispatchers.IO)

    @AfterAll
    fun close() {
        scope.cancel()
        server.close()
    }

    @Test
    fun `a stop calls off a start that is under way`() = whileStarting { tunnel, tun, start, goOn ->
        tunnel.stop()
        goOn()
        assertFails<TunnelException.Cancelled>("cancelled", isRetryable = false) { start.await().getOrThrow() }
        assertEquals(TunnelState.Stopped, tunnel.state())
        waitUntil("the TUN is let go") { !tun.isHeld }
    }

    @Test
    fun `a second start is refused while the first is under way`() = whileStarting { tunnel, _, start, goOn ->
        PacketTun().use { second ->
            assertFails<TunnelException.AlreadyStarted>("already_started", isRetryable = false) {
                tunnel.start(config, second.fd)
            }
            waitUntil("the TUN is let go") { !second.isHeld }
        }
        assertFails<TunnelException.NotStarted>("not_started", isRetryable = false) { tunnel.reload(config) }
        goOn()
        start.await().getOrThrow()
    }

    @Test
    fun `a start that is cancelled while it waits is undone`() {
        val (isAsked, mayAnswer) = CountDownLatch(1) to CountDownLatch(1)
        val hanging = AppPlatform(
            protectSocket = {
                isAsked.countDown()
                mayAnswer.await(PATIENCE_SECONDS, TimeUnit.SECONDS)
            },
        )
        withTunnel(config, hanging) {
            isAsked.await(PATIENCE_SECONDS, TimeUnit.SECONDS)
            val stop = scope.launch { tunnel.stop() }
            waitUntil("the stop has begun") { tunnel.state() == TunnelState.Stopping }
            PacketTun().use { second ->
                val start = scope.launch(start = CoroutineStart.UNDISPATCHED) { tunnel.start(config, second.fd) }
                start.cancelAndJoin()
                assertTrue(start.isCancelled)
                stop.join()
                waitUntil("the TUN is let go") { !second.isHeld }
            }
            mayAnswer.countDown()
            assertEquals(TunnelState.Stopped, tunnel.state())
        }
    }

    @Test
    fun `a start that is cancelled while it works is undone by a stop at the latest`() =
        whileStarting { tunnel, tun, start, goOn ->
            start.cancel()
            goOn()
            start.join()
            tunnel.stop()
            assertEquals(TunnelState.Stopped, tunnel.state())
            waitUntil("the TUN is let go") { !tun.isHeld }
            PacketTun().use { another ->
                tunnel.start(config, another.fd)
                assertTrue(another.isHeld)
                tunnel.stop()
            }
        }

    @Test
    fun `a start that is cancelled at any moment is undone by a stop at the latest`() = runBlocking {
        val random = Random(SEED)
        Tunnel(null).use { tunnel ->
            repeat(200) { round ->
                PacketTun().use { tun ->
                    val start = launch(Dispatchers.IO, CoroutineStart.UNDISPATCHED) { tunnel.start(config, tun.fd) }
                    repeat(random.nextInt(2_000)) { Thread.onSpinWait() }
                    start.cancelAndJoin()
                    tunnel.stop()
                    waitUntil("off in round $round of seed $SEED") {
                        tunnel.state() == TunnelState.Stopped && !tun.isHeld
                    }
                }
            }
        }
    }

    @Test
    fun `a measurement that is cancelled gives its connection up`() {
        SilentPort().use { port ->
            withTunnel(config(port.port, server = """"ensure_idle_session": 0""")) {
                val (older, younger) = List(2) {
                    val measurement = scope.launch { runCatching { tunnel.testLatency("127.0.0.1:80") } }
                    measurement to eventually("it has connected") { port.accept() }
                }
                younger.first.cancel()
                younger.second.use(SocketChannel::awaitEnd)
                assertTrue(older.first.isActive, "it ended by itself, as the older one did before it")
                older.first.cancel()
                older.second.use(SocketChannel::awaitEnd)
            }
        }
    }

    @Test
    fun `a stop that is cancelled stops all the same`() = runBlocking {
        Tunnel(null).use { tunnel ->
            repeat(20) {
                PacketTun().use { tun ->
                    tunnel.start(config, tun.fd)
                    launch(start = CoroutineStart.UNDISPATCHED) { tunnel.stop() }.cancelAndJoin()
                    waitUntil("it has stopped") { tunnel.state() == TunnelState.Stopped && !tun.isHeld }
                }
            }
        }
    }

    @Test
    fun `a start waits for the stop before it`() = runBlocking {
        Tunnel(null).use { tunnel ->
            repeat(20) {
                PacketTun().use { first ->
                    PacketTun().use { second ->
                        tunnel.start(config, first.fd)
                        val stop = launch(start = CoroutineStart.UNDISPATCHED) { tunnel.stop() }
                        tunnel.start(config, second.fd)
                        stop.join()
                        assertFalse(first.isHeld)
                        assertTrue(second.isHeld)
                        tunnel.stop()
                    }
                }
            }
        }
    }

    @Test
    fun `calls of many threads at once are all answered`() = withTunnel(config) {
        ears.awaitState<TunnelState.Connected>()
        val dead = deadPort()
        val calls = List(16) { number ->
            scope.launch {
                repeat(20) { round ->
                    tunnel.state()
                    tunnel.stats()
                    tunnel.sessions()
                    tunnel.connections()
                    tunnel.closeConnection(round.toULong())
                    tunnel.memoryPressure(MemoryPressure.entries[round % 3])
                    tunnel.unsubscribe(tunnel.subscribe(Ears(), null))
                    StreamPair().use { tunnel.connectStream(it.fd, "127.0.0.1:$dead") }
                    if (round % 5 == 0) tunnel.reload(config)
                    if (number == 0 && round % 10 == 0) {
                        assertThrows(TunnelException.Refused::class.java) {
                            runBlocking { tunnel.testLatency("127.0.0.1:$dead") }
                        }
                    }
                }
            }
        }
        calls.joinAll()
        assertTrue(calls.none { it.isCancelled })
        waitUntil("every stream has ended") { tunnel.connections().isEmpty() }
        assertEquals(16uL * 20uL, tunnel.stats().traffic.totalConnections)
    }

    @Test
    fun `starts and stops of many threads at once end with the tunnel off and no TUN held`() = runBlocking {
        Tunnel(null).use { tunnel ->
            val tuns = List(64) { PacketTun() }
            tuns.map { tun ->
                launch(Dispatchers.IO) {
                    try {
                        tunnel.start(config, tun.fd)
                    } catch (_: TunnelException.AlreadyStarted) {
                    } catch (_: TunnelException.Cancelled) {
                    }
                    tunnel.stop()
                }
            }.joinAll()
            assertEquals(TunnelState.Stopped, tunnel.state())
            waitUntil("every TUN is let go") { tuns.none { it.isHeld } }
            tuns.forEach(PacketTun::close)
        }
    }

    /** Hands over a start that goes no further until told: its certificate comes out of a pipe. */
    private fun whileStarting(
        body: suspend CoroutineScope.(Tunnel, PacketTun, Deferred<Result<Unit>>, () -> Unit) -> Unit,
    ) = runBlocking {
        val folder = Files.createTempDirectory("certificate")
        val pipe = folder.resolve("pipe")
        Libc.mkfifo("$pipe", 0b110_000_000)
        val slow = config(server.port, tls = """"certificate_path": "$pipe"""")
        Tunnel(null).use { tunnel ->
            PacketTun().use { tun ->
                val start = async(Dispatchers.IO) { runCatching { tunnel.start(slow, tun.fd) } }
                waitUntil("it is starting") { tunnel.state() == TunnelState.Starting }
                body(tunnel, tun, start) { Files.writeString(pipe, anyCertificate()) }
                tunnel.stop()
            }
        }
        Files.delete(pipe)
        Files.delete(folder)
    }

    private fun anyCertificate(): String {
        val factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm())
        factory.init(null as KeyStore?)
        val certificate = factory.trustManagers.filterIsInstance<X509TrustManager>().first().acceptedIssuers.first()
        val body = Base64.getMimeEncoder().encodeToString(certificate.encoded)
        return "-----BEGIN CERTIFICATE-----\n$body\n-----END CERTIFICATE-----\n"
    }

    private companion object {
        const val SEED = 4711
    }
}
