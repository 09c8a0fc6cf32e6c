package io.anytls.mobile

/** A pair of sockets that keeps the borders of packets: one end is the tunnel's TUN, the other the phone's apps. */
internal class PacketTun : AutoCloseable {
    private val ours: Int
    private val file: String
    private var isClosed = false

    /** To be handed over, once. */
    val fd: Int

    init {
        val pair = IntArray(2)
        Libc.socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair)
        ours = pair[0]
        fd = pair[1]
        file = fileOf(fd)
    }

    /** Whether anybody in this process still holds the tunnel's end, under any number. */
    val isHeld: Boolean get() = holdersOf(file).isNotEmpty()

    fun send(packet: ByteArray) {
        check(Libc.write(ours, packet, packet.size.toLong()) == packet.size.toLong())
    }

    /** The next packet to the apps. */
    fun receive(): ByteArray {
        val entry = byteArrayOf(ours.toByte(), (ours shr 8).toByte(), 0, 0, POLLIN, 0, 0, 0)
        val ready = Libc.poll(entry, 1, PATIENCE_SECONDS.toInt() * 1000)
        if (ready == 0) throw AssertionError("no packet within $PATIENCE_SECONDS s")
        val buffer = ByteArray(65_536)
        val length = Libc.read(ours, buffer, buffer.size.toLong())
        if (length == 0L) throw AssertionError("the tunnel has closed its TUN")
        return buffer.copyOf(length.toInt())
    }

    /** As when the system takes the VPN away. */
    override fun close() {
        if (!isClosed) Libc.close(ours)
        isClosed = true
    }

    private companion object {
        const val POLLIN: Byte = 1
    }
}
