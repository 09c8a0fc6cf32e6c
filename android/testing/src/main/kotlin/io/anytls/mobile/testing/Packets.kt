package io.anytls.mobile.testing

import java.net.InetAddress
import java.nio.ByteBuffer

/** Hand-made IPv4 packets, and what is read from those that come back. RFC 791, 792, 793. */
object Packets {
    const val ICMP = 1
    const val TCP = 6
    const val IP_HEADER = 20
    const val TCP_HEADER = 20

    fun echoRequest(from: InetAddress, to: InetAddress, id: Int, payload: ByteArray): ByteArray {
        // type (1), code (1), checksum (2), identifier (2), sequence (2)
        val message = ByteBuffer.allocate(8 + payload.size)
            .put(8).put(0).putShort(0).putShort(id.toShort()).putShort(1).put(payload)
        message.putShort(2, checksum(message.array()))
        return ip(ICMP, from, to, message.array())
    }

    /** The echo reply's payload; null when the packet is none. */
    fun echoReply(packet: ByteArray, id: Int): ByteArray? {
        val isReply = protocolOf(packet) == ICMP && packet[IP_HEADER].toInt() == 0
        if (!isReply || ByteBuffer.wrap(packet).getShort(IP_HEADER + 4) != id.toShort()) return null
        return packet.copyOfRange(IP_HEADER + 8, packet.size)
    }

    /** [segment] begins with its ports; length of header, window and checksum are filled in here. */
    fun tcp(from: InetAddress, to: InetAddress, segment: ByteArray): ByteArray {
        val pseudo = ByteBuffer.allocate(12 + segment.size)
            .put(from.address).put(to.address).put(0).put(TCP.toByte()).putShort(segment.size.toShort()).put(segment)
        ByteBuffer.wrap(segment).putShort(16, checksum(pseudo.array()))
        return ip(TCP, from, to, segment)
    }

    fun protocolOf(packet: ByteArray): Int = if (packet[0].toInt() shr 4 == 4) packet[9].toInt() else -1

    private fun ip(protocol: Int, from: InetAddress, to: InetAddress, payload: ByteArray): ByteArray {
        // version and length (1), service (1), total (2), id (2), fragment (2), hops (1), protocol (1), checksum (2),
        // addresses (8)
        val packet = ByteBuffer.allocate(IP_HEADER + payload.size)
            .put(0x45).put(0).putShort((IP_HEADER + payload.size).toShort()).putInt(0)
            .put(64).put(protocol.toByte()).putShort(0).put(from.address).put(to.address).put(payload)
        packet.putShort(10, checksum(packet.array().copyOf(IP_HEADER)))
        return packet.array()
    }

    /** RFC 1071. */
    private fun checksum(bytes: ByteArray): Short {
        val words = ByteBuffer.wrap(bytes.copyOf((bytes.size + 1) / 2 * 2)).asShortBuffer()
        var sum = 0L
        while (words.hasRemaining()) sum += words.get().toLong() and 0xffff
        while (sum > 0xffff) sum = (sum and 0xffff) + (sum shr 16)
        return sum.inv().toShort()
    }
}
