package io.anytls.mobile

import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.api.Test
import java.io.IOException
import java.net.DatagramPacket
import java.net.DatagramSocket
import java.net.Inet4Address
import java.net.InetAddress
import java.net.InetSocketAddress
import java.net.NetworkInterface
import java.net.Socket
import java.nio.file.Files
import java.nio.file.Path
import kotlin.random.Random

/** A TUN of the kernel's, and the kernel's TCP in front of it. */
class TunTest {
    @Test
    fun `megabytes pass a real TUN both ways, and are seen in every number`() = withLab { lab, tunnel, echo ->
        val sent = Random(4711).nextBytes(4 * 1024 * 1024)
        val received = Target { it.getOutputStream().write(it.getInputStream().readNBytes(sent.size)) }.use { target ->
            lab.run { connect(InetSocketAddress(echo.address, target.port)) }.use { socket ->
                socket.getOutputStream().write(sent)
                socket.getInputStream().readAllBytes()
            }
        }
        assertArrayEquals(sent, received)

        val bytes = sent.size.toULong()
        val stats = eventually("the connection is counted as ended") {
            tunnel.stats().takeIf { it.traffic.totalConnections > 0uL && it.traffic.openConnections == 0uL }
        }
        assertEquals(bytes to bytes, stats.traffic.upBytes to stats.traffic.downBytes)
        assertEquals(0uL, stats.traffic.failedConnections)
        assertTrue(stats.packets.bytesIn > bytes && stats.packets.bytesOut > bytes) { "$stats" }
        assertTrue(stats.packets.packetsIn > 0uL && stats.packets.packetsOut > 0uL) { "$stats" }
        assertTrue(stats.pool.dialed > 0uL) { "$stats" }
        assertTrue(tunnel.sessions().any { it.sentBytes >= bytes && it.receivedBytes >= bytes })
    }

    @Test
    fun `an app's connection is listed, and reset when it is closed by its number`() = withLab { lab, tunnel, echo ->
        val socket = lab.run { connect(echo) }
        socket.getOutputStream().write(1)
        assertEquals(1, socket.getInputStream().read())
        val connection =
            eventually("the byte is counted") { tunnel.connections().single().takeIf { it.downBytes == 1uL } }
        assertEquals(ConnectionKind.TCP to ConnectionPhase.OPEN, connection.kind to connection.phase)
        assertEquals("${echo.address.hostAddress}:${echo.port}", connection.destination)
        assertEquals(1uL to 1uL, connection.upBytes to connection.downBytes)
        waitUntil("the flow is shown") { tunnel.stats().packets.tcpFlows == 1uL }

        assertTrue(tunnel.closeConnection(connection.id))
        val error = assertThrows(IOException::class.java) { socket.getInputStream().read() }
        assertTrue(error.message.orEmpty().contains("reset")) { "$error" }
    }

    @Test
    fun `the kernel's sockets get their names answered`() = withLab { lab, tunnel, _ ->
        val answer = lab.run {
            DatagramSocket().use { socket ->
                socket.soTimeout = PATIENCE_SECONDS.toInt() * 1000
                val question = Packets.question(815, "name.example")
                val server = InetSocketAddress(Lab.NAME_SERVER, 53)
                socket.send(DatagramPacket(question, question.size, server))
                DatagramPacket(ByteArray(512), 512).also(socket::receive).run { data.copyOf(length) }
            }
        }
        assertEquals(NameServer.ADDRESS, Packets.addressIn(answer))
        assertEquals(1uL, tunnel.stats().dns.forwarded)
    }

    @Test
    fun `the tunnel's stop resets the apps' connections and takes the TUN away`() = withLab { lab, tunnel, echo ->
        val socket = lab.run { connect(echo) }
        socket.getOutputStream().write(1)
        assertEquals(1, socket.getInputStream().read())
        tunnel.stop()
        assertThrows(IOException::class.java) { socket.getInputStream().read() }
        val interfaces = lab.run { Files.readString(Path.of("/proc/thread-self/net/dev")) }
        assertFalse(interfaces.contains("tun")) { interfaces }
    }

    /** Hands over a tunnel that runs behind the lab's TUN, and where an echo is. */
    private fun withLab(body: suspend (Lab, Tunnel, InetSocketAddress) -> Unit) = runBlocking {
        val address = ownAddress()
        assumeTrue(address != null, "SKIP: this machine has no IPv4 address but its loopback's")
        Lab().use { lab ->
            Server().use { server ->
                NameServer().use { names ->
                    EchoTarget().use { echo ->
                        Tunnel(null).use { tunnel ->
                            val dns = """"server": "tcp://127.0.0.1:${names.port}""""
                            tunnel.start(config(server.port, dns = dns), lab.tun)
                            body(lab, tunnel, InetSocketAddress(address, echo.port))
                            tunnel.stop()
                        }
                    }
                }
            }
        }
    }

    private fun connect(address: InetSocketAddress): Socket =
        Socket().apply { connect(address, PATIENCE_SECONDS.toInt() * 1000) }

    /** The loopback's address would not leave the namespace; the server reaches this one as well. */
    private fun ownAddress(): InetAddress? = NetworkInterface.networkInterfaces()
        .filter { it.isUp && !it.isLoopback }
        .flatMap { it.inetAddresses() }
        .filter { it is Inet4Address }
        .findFirst().orElse(null)
}
