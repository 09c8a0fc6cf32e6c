package io.anytls.mobile

import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestInstance
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicBoolean

/** The whole life of a tunnel, with packets made by hand. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class LifeTest {
    private val server = Server()
    private val names = NameServer()
    private val echo = EchoTarget()
    private val config = config(server.port, dns = """"server": "tcp://127.0.0.1:${names.port}"""")

    @AfterAll
    fun close() {
        echo.close()
        names.close()
        server.close()
    }

    @Test
    fun `a tunnel answers packets from its start to its stop, and counts them`() = withTunnel(config) {
        val data = "a ping".toByteArray()
        tun.send(Packets.ping("172.19.0.1", "192.0.2.1", data))
        val pong = tun.receive()
        assertTrue(Packets.isSame(pong, Packets.pong("192.0.2.1", "172.19.0.1", data))) { pong.joinToString() }

        tun.send(Packets.dnsQuery("172.19.0.1", 40_000, "172.19.0.2", Packets.question(4711, "name.example")))
        val answer = Packets.datagram(tun.receive())
        assertEquals(4711, answer[0] * 256 + answer[1])
        assertEquals(NameServer.ADDRESS, Packets.addressIn(answer))

        ears.awaitState<TunnelState.Connected>()
        val stats = eventually("the packets are counted") {
            tunnel.stats().takeIf { it.packets.packetsIn == 2uL && it.packets.packetsOut == 2uL }
        }
        assertEquals(1uL to 1uL, stats.dns.queries to stats.dns.forwarded)
        assertTrue(stats.packets.bytesIn > 0uL && stats.packets.bytesOut > 0uL) { "$stats" }
        assertTrue(stats.pool.dialed > 0uL) { "$stats" }
        assertTrue(stats.memory.heldBytes in 1uL..stats.memory.limitBytes) { "$stats" }
        assertTrue(tunnel.sessions().any { it.serverVersion == 2u && it.sentBytes > 0uL && it.receivedBytes > 0uL })

        tunnel.stop()
        assertEquals(TunnelState.Stopped, tunnel.state())
        assertFalse(tun.isHeld)
        assertEquals(emptyList<SessionInfo>(), tunnel.sessions())
        assertEquals(2uL, tunnel.stats().packets.packetsIn) // those of the last run
        tunnel.stop()
    }

    @Test
    fun `packets may come and go in batches instead of a descriptor`() = runBlocking<Unit> {
        val written = LinkedBlockingQueue<ByteArray>()
        val fails = AtomicBoolean(false)
        val flow = object : PacketFlow {
            override fun writePackets(packets: List<ByteArray>) {
                written += packets
                check(!fails.get()) { "on purpose" }
            }
        }
        Tunnel(null).use { tunnel ->
            tunnel.startWithPackets(config, flow)
            for (round in 1..2) {
                val data = List(8) { number -> byteArrayOf(round.toByte(), number.toByte()) }
                val pings = data.map { Packets.ping("172.19.0.1", "192.0.2.1", it) }
                assertEquals(0u, tunnel.handlePackets(pings))
                for (expected in data.map { Packets.pong("192.0.2.1", "172.19.0.1", it) }) {
                    val pong = written.poll(PATIENCE_SECONDS, TimeUnit.SECONDS)
                    assertTrue(pong != null && Packets.isSame(pong, expected)) { "$pong" }
                }
                fails.set(true)
            }
            waitUntil("the packets are counted") { tunnel.stats().packets.packetsOut == 16uL }
            tunnel.stop()
            assertFails<TunnelException.NotStarted>("not_started", isRetryable = false) {
                tunnel.handlePackets(emptyList())
            }
        }
    }

    @Test
    fun `a socket of the app's own is relayed, listed, counted and closed by its number`() = withTunnel(config) {
        val socket = StreamPair()
        val destination = "127.0.0.1:${echo.port}"
        val id = tunnel.connectStream(socket.fd, destination)
        val sent = "through the tunnel".toByteArray()
        socket.write(sent)
        assertEquals(String(sent), String(socket.read(sent.size)))

        val bytes = sent.size.toULong()
        waitUntil("the bytes are counted") { tunnel.stats().traffic.downBytes == bytes }
        val connection = tunnel.connections().single()
        assertEquals(id, connection.id)
        assertEquals(ConnectionKind.SOCKET to ConnectionPhase.OPEN, connection.kind to connection.phase)
        assertEquals(destination, connection.destination)
        assertEquals(bytes to bytes, connection.upBytes to connection.downBytes)
        assertEquals(1u, tunnel.sessions().sumOf { it.streams })

        assertTrue(tunnel.closeConnection(id))
        assertEquals(0, socket.read(1).size)
        assertFalse(tunnel.closeConnection(id))
        assertEquals(emptyList<ConnectionInfo>(), tunnel.connections())
        val traffic = eventually("the end is counted") {
            tunnel.stats().traffic.takeIf { it.closedConnections == 1uL }
        }
        assertEquals(bytes to bytes, traffic.upBytes to traffic.downBytes)
        assertEquals(1uL to 0uL, traffic.totalConnections to traffic.openConnections)
        socket.close()
    }

    @Test
    fun `latency is measured step by step`() = withTunnel(config) {
        val report = tunnel.testLatency("127.0.0.1:${echo.port}")
        for (step in listOf(report.tcp, report.tls, report.firstStream, report.warmStream)) {
            assertNotEquals(java.time.Duration.ZERO, step) { "$report" }
        }
    }

    @Test
    fun `a reload changes the server and leaves the TUN alone`() = withTunnel(config(deadPort())) {
        ears.awaitState<TunnelState.Reconnecting>()
        tunnel.reload(config(server.port))
        ears.awaitState<TunnelState.Connected>()
        tunnel.testLatency("127.0.0.1:${echo.port}")
        assertTrue(tun.isHeld)
    }
}
