package io.anytls.mobile.testing

import io.anytls.mobile.testing.Packets.IP_HEADER
import io.anytls.mobile.testing.Packets.TCP_HEADER
import java.net.InetAddress
import java.net.InetSocketAddress
import java.nio.ByteBuffer

/** An app's TCP connection, in packets; as simple as a TUN that loses nothing allows. */
class AppSocket(private val tun: TestTun, private val from: InetAddress, private val to: InetSocketAddress) {
    private var sent = FIRST_SEQUENCE
    private var received = 0

    /** Returns when the other side has answered the SYN. */
    fun connect() {
        send(SYN)
        sent += 1
        val answer = await("an answer to the SYN") { true }
        check(answer.flags == SYN or ACK) { "the connection was refused" }
        received = answer.sequence + 1
        send(ACK)
    }

    fun write(data: ByteArray) {
        send(ACK or PSH, data)
        sent += data.size
    }

    fun read(size: Int): ByteArray {
        var data = ByteArray(0)
        while (data.size < size) {
            val segment = await("data") { it.payload.isNotEmpty() && it.sequence == received }
            data += segment.payload
            received += segment.payload.size
            send(ACK)
        }
        return data
    }

    private fun send(flags: Int, data: ByteArray = ByteArray(0)) {
        // ports (4), sequence (4), acknowledged (4), length of header in words (1), flags (1), window (2),
        // checksum (2), urgent (2)
        val segment = ByteBuffer.allocate(TCP_HEADER + data.size)
            .putShort(PORT).putShort(to.port.toShort())
            .putInt(sent).putInt(received)
            .put((TCP_HEADER / 4 shl 4).toByte()).put(flags.toByte()).putShort(WINDOW).putInt(0)
            .put(data)
        tun.send(Packets.tcp(from, to.address, segment.array()))
    }

    private fun await(what: String, fits: (Segment) -> Boolean): Segment {
        val packet = tun.receive(what) { packet -> Segment.of(packet)?.let(fits) ?: false }
        return Segment.of(packet)!!
    }

    private class Segment(val sequence: Int, val flags: Int, val payload: ByteArray) {
        companion object {
            /** Null when the packet is not for this socket. */
            fun of(packet: ByteArray): Segment? {
                if (Packets.protocolOf(packet) != Packets.TCP) return null
                val tcp = ByteBuffer.wrap(packet, IP_HEADER, packet.size - IP_HEADER).slice()
                if (tcp.getShort(2) != PORT) return null
                val header = (tcp.get(12).toInt() and 0xff) shr 4 shl 2
                return Segment(tcp.getInt(4), tcp.get(13).toInt(), packet.copyOfRange(IP_HEADER + header, packet.size))
            }
        }
    }

    private companion object {
        const val FIRST_SEQUENCE = 1000
        const val PORT: Short = 20_000
        const val WINDOW: Short = 8192
        const val SYN = 2
        const val PSH = 8
        const val ACK = 16
    }
}
