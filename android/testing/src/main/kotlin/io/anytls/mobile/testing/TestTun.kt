package io.anytls.mobile.testing

import com.sun.jna.Memory
import io.anytls.mobile.testing.LibC.Companion.libc
import java.util.concurrent.TimeUnit

/** A TUN without root: a pair of sockets that keep packets apart. One end is the VPN's, this is the apps'. */
class TestTun : AutoCloseable {
    /** The VPN's end, which whoever takes it has to close. */
    val vpnEnd: Int

    private val appsEnd: Int
    private var isClosed = false
    private val buffer = Memory(MAX_PACKET)

    init {
        val pair = IntArray(2)
        libc.socketpair(LibC.AF_UNIX, LibC.SOCK_SEQPACKET, 0, pair)
        appsEnd = pair[0]
        vpnEnd = pair[1]
    }

    /** Sends a packet as an app. */
    fun send(packet: ByteArray) {
        libc.write(appsEnd, packet, packet.size.toLong())
    }

    /** The next packet to an app that fits; others are passed over. */
    fun receive(what: String, fits: (ByteArray) -> Boolean): ByteArray {
        val deadline = System.nanoTime() + PATIENCE_NS
        while (true) {
            val packet = next(deadline) ?: throw AssertionError("no packet: $what")
            check(packet.isNotEmpty()) { "the VPN's end was closed before: $what" }
            if (fits(packet)) return packet
        }
    }

    /** Returns when the VPN's end has been closed. */
    fun awaitClosed() {
        val deadline = System.nanoTime() + PATIENCE_NS
        while (true) {
            val packet = next(deadline) ?: throw AssertionError("the VPN's end is still open")
            if (packet.isEmpty()) return
        }
    }

    /** The interface goes away under the VPN. */
    fun hangUp() {
        if (!isClosed) libc.close(appsEnd)
        isClosed = true
    }

    override fun close() = hangUp()

    /** Empty at the end of file, null at the deadline. */
    private fun next(deadline: Long): ByteArray? {
        val left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime())
        if (left <= 0 || !isReadable(left.toInt())) return null
        val size = libc.read(appsEnd, buffer, MAX_PACKET)
        return buffer.getByteArray(0, size.toInt())
    }

    private fun isReadable(timeoutMs: Int): Boolean {
        // struct pollfd: fd (4), events (2), revents (2)
        val entry = Memory(POLLFD_BYTES).apply {
            setInt(0, appsEnd)
            setShort(4, LibC.POLLIN)
            setShort(6, 0)
        }
        return libc.poll(entry, 1, timeoutMs) > 0
    }

    private companion object {
        const val MAX_PACKET = 65_536L
        const val POLLFD_BYTES = 8L
    }
}
