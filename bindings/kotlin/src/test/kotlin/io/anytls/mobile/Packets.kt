package io.anytls.mobile

import java.io.ByteArrayOutputStream
import java.net.InetAddress
import java.nio.ByteBuffer

/** Packets of IPv4, made and read by hand. */
internal object Packets {
    private const val ICMP = 1
    private const val UDP = 17
    private const val HEADER_BYTES = 20
    private const val PORT_BYTES = 8
    private const val DNS_HEADER_BYTES = 12
    private const val DNS_PORT = 53

    fun ping(source: String, destination: String, data: ByteArray): ByteArray =
        ip(ICMP, source, destination, icmp(type = 8, data))

    fun pong(source: String, destination: String, data: ByteArray): ByteArray =
        ip(ICMP, source, destination, icmp(type = 0, data))

    /** Whether two packets are the same but for what the sender is free to choose of an IP header. */
    fun isSame(one: ByteArray, other: ByteArray): Boolean {
        fun essence(packet: ByteArray) = packet.copyOfRange(9, 10) + packet.copyOfRange(12, packet.size)
        return essence(one).contentEquals(essence(other))
    }

    fun dnsQuery(source: String, sourcePort: Int, server: String, message: ByteArray): ByteArray {
        val datagram = ByteBuffer.allocate(PORT_BYTES + message.size)
            .putShort(sourcePort.toShort()).putShort(DNS_PORT.toShort())
            .putShort((PORT_BYTES + message.size).toShort()).putShort(0) // no checksum: allowed with IPv4
            .put(message)
        return ip(UDP, source, server, datagram.array())
    }

    /** The datagram in a packet of UDP. */
    fun datagram(packet: ByteArray): ByteArray {
        check(packet[9].toInt() == UDP) { "not a packet of UDP" }
        return packet.copyOfRange(HEADER_BYTES + PORT_BYTES, packet.size)
    }

    /** A query for the IPv4 address of [name]. */
    fun question(id: Int, name: String): ByteArray {
        val message = ByteArrayOutputStream()
        message.write(words(id, 0x0100, 1, 0, 0, 0))
        for (label in name.split('.')) {
            message.write(label.length)
            message.write(label.toByteArray())
        }
        message.write(0)
        message.write(words(1, 1)) // A, IN
        return message.toByteArray()
    }

    /** What answers [query], which asks one question, with an address. */
    fun answer(query: ByteArray, address: String): ByteArray {
        var end = DNS_HEADER_BYTES
        while (query[end].toInt() != 0) end += 1 + query[end]
        val question = query.copyOfRange(DNS_HEADER_BYTES, end + 5)
        val id = query.copyOf(2)
        val record = words(0xC00C, 1, 1, 0, 60, 4) + InetAddress.getByName(address).address
        return id + words(0x8180, 1, 1, 0, 0) + question + record
    }

    /** The address in an answer that ends with one. */
    fun addressIn(answer: ByteArray): String =
        InetAddress.getByAddress(answer.copyOfRange(answer.size - 4, answer.size)).hostAddress

    private fun icmp(type: Int, data: ByteArray): ByteArray {
        val message = ByteBuffer.allocate(8 + data.size)
            .put(type.toByte()).put(0).putShort(0).putInt(0x0001_0002)
            .put(data)
        return message.putShort(2, checksum(message.array())).array()
    }

    private fun ip(protocol: Int, source: String, destination: String, payload: ByteArray): ByteArray {
        val packet = ByteBuffer.allocate(HEADER_BYTES + payload.size)
            .put(0x45).put(0).putShort((HEADER_BYTES + payload.size).toShort()).putInt(0)
            .put(64).put(protocol.toByte()).putShort(0)
            .put(InetAddress.getByName(source).address).put(InetAddress.getByName(destination).address)
            .put(payload)
        return packet.putShort(10, checksum(packet.array().copyOf(HEADER_BYTES))).array()
    }

    private fun checksum(bytes: ByteArray): Short {
        val padded = ByteBuffer.wrap(bytes.copyOf((bytes.size + 1) / 2 * 2))
        var sum = 0
        while (padded.hasRemaining()) sum += padded.getShort().toInt() and 0xFFFF
        while (sum shr 16 != 0) sum = (sum and 0xFFFF) + (sum shr 16)
        return sum.inv().toShort()
    }

    private fun words(vararg words: Int): ByteArray =
        ByteBuffer.allocate(2 * words.size).apply { words.forEach { putShort(it.toShort()) } }.array()
}
