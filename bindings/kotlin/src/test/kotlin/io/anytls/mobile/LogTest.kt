package io.anytls.mobile

import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestInstance
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.Semaphore
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicInteger

/** The log, as an app gets it. The process has one. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class LogTest {
    private val server = Server()
    private val echo = EchoTarget()
    private val config = config(server.port)

    @AfterEach
    fun silence() = setLogger(LogOptions(LogLevel.OFF, toSystem = false), null)

    @AfterAll
    fun close() {
        echo.close()
        server.close()
    }

    @Test
    fun `lines come in batches, and name nobody`() {
        val lines = Lines()
        setLogger(LogOptions(LogLevel.TRACE, toSystem = false), lines)
        useTunnel()
        val records = lines.awaitEnd()
        assertTrue(records.all { it.level != LogLevel.OFF && it.target.startsWith("anytls_mobile") }) { "$records" }
        assertTrue(records.zipWithNext().all { (one, next) -> one.time <= next.time }) { "$records" }
        assertTrue(lines.largestBatch > 1)
        val text = "$records"
        assertFalse(text.contains(DESTINATION)) { text }
        assertFalse(text.contains("127.0.0.1:${server.port}")) { text }
        assertNoSecret(text)
    }

    @Test
    fun `lines name destinations when they are asked to, and never the password`() {
        val lines = Lines()
        setLogger(LogOptions(LogLevel.DEBUG, toSystem = false, showsDestinations = true), lines)
        useTunnel()
        val records = lines.awaitEnd()
        val text = "$records"
        assertTrue(text.contains(DESTINATION)) { text }
        assertNoSecret(text)
        assertTrue(records.none { it.level == LogLevel.TRACE }) { text }
    }

    @Test
    fun `the level changes while the log runs`() {
        val lines = Lines()
        setLogger(LogOptions(LogLevel.DEBUG, toSystem = false), lines)
        setLogLevel(LogLevel.OFF)
        useTunnel()
        setLogLevel(LogLevel.DEBUG)
        useTunnel()
        val ends = lines.awaitEnd().count { it.line.contains(END) }
        assertEquals(1, ends)
    }

    @Test
    fun `a config says how much is logged`() {
        val lines = Lines()
        setLogger(LogOptions(LogLevel.OFF, toSystem = false), lines)
        useTunnel(config(server.port, log = """"level": "debug""""))
        lines.awaitEnd()
    }

    @Test
    fun `a sink that throws gets the next batch all the same`() {
        for (react in listOf<() -> Unit>({ throw CallbackException.Failed("disk full") }, { error("disk full") })) {
            val lines = Lines(react)
            setLogger(LogOptions(LogLevel.DEBUG, toSystem = false), lines)
            useTunnel()
            lines.awaitEnd()
            useTunnel()
            lines.awaitEnd()
        }
    }

    @Test
    fun `a sink that hangs loses lines, and is told how many`() {
        val arrived = LinkedBlockingQueue<ULong>()
        val mayGoOn = Semaphore(0)
        val sink = object : LogSink {
            override fun log(batch: List<LogRecord>, dropped: ULong) {
                arrived += dropped
                mayGoOn.tryAcquire(2 * PATIENCE_SECONDS, TimeUnit.SECONDS)
            }
        }
        setLogger(LogOptions(LogLevel.TRACE, toSystem = false), sink)
        useTunnel()
        assertEquals(0uL, arrived.poll(PATIENCE_SECONDS, TimeUnit.SECONDS))
        repeat(40) { useTunnel() }
        mayGoOn.release()
        val dropped = arrived.poll(PATIENCE_SECONDS, TimeUnit.SECONDS)
        assertTrue(dropped != null && dropped > 0uL) { "$dropped" }
        mayGoOn.release()
    }

    @Test
    fun `without a sink nobody is called any more`() {
        val first = Lines()
        setLogger(LogOptions(LogLevel.DEBUG, toSystem = false), first)
        useTunnel()
        first.awaitEnd()
        setLogger(LogOptions(LogLevel.DEBUG, toSystem = false), null)
        val calls = first.calls.get()
        useTunnel()
        val second = Lines()
        setLogger(LogOptions(LogLevel.DEBUG, toSystem = false), second)
        useTunnel()
        assertEquals(1, second.awaitEnd().count { it.line.contains(END) })
        assertEquals(calls, first.calls.get())
    }

    /** Moves a few bytes through a tunnel of its own. */
    private fun useTunnel(config: String = this.config) = withTunnel(config) {
        StreamPair().use { socket ->
            val id = tunnel.connectStream(socket.fd, "$DESTINATION:${echo.port}")
            socket.write(byteArrayOf(1, 2, 3))
            assertEquals(3, socket.read(3).size)
            assertTrue(tunnel.closeConnection(id))
            waitUntil("the end") { tunnel.stats().traffic.closedConnections == 1uL }
        }
    }

    private class Lines(private val react: () -> Unit = {}) : LogSink {
        private val waiting = LinkedBlockingQueue<LogRecord>()
        val calls = AtomicInteger(0)

        @Volatile
        var largestBatch = 0
            private set

        override fun log(batch: List<LogRecord>, dropped: ULong) {
            calls.incrementAndGet()
            largestBatch = maxOf(largestBatch, batch.size)
            waiting += batch
            react()
        }

        /** The lines up to the one about the end of a connection. */
        fun awaitEnd(): List<LogRecord> = buildList {
            do {
                val line = waiting.poll(PATIENCE_SECONDS, TimeUnit.SECONDS)
                    ?: throw AssertionError("no line of the end; only $this")
                add(line)
            } while (!line.line.contains(END))
        }
    }

    private companion object {
        /** A name that the server finds and that stands nowhere else. */
        const val DESTINATION = "localhost"
        const val END = "flow ended"
    }
}
