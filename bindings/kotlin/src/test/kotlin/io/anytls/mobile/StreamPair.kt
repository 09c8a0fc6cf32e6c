package io.anytls.mobile

/** A connected pair of sockets: one end for the tunnel to relay, the other the app's. */
internal class StreamPair : AutoCloseable {
    private val ours: Int
    private val file: String

    /** To be handed over, once. */
    val fd: Int

    init {
        val pair = IntArray(2).also { Libc.socketpair(AF_UNIX, SOCK_STREAM, 0, it) }
        ours = pair[0]
        fd = pair[1]
        file = fileOf(fd)
    }

    /** Whether anybody in this process still holds the tunnel's end, under any number. */
    val isHeld: Boolean get() = holdersOf(file).isNotEmpty()

    fun write(bytes: ByteArray) {
        check(Libc.write(ours, bytes, bytes.size.toLong()) == bytes.size.toLong())
    }

    /** So many bytes, or fewer at the end. */
    fun read(size: Int): ByteArray {
        var all = ByteArray(0)
        while (all.size < size) {
            val buffer = ByteArray(size - all.size)
            val length = Libc.read(ours, buffer, buffer.size.toLong()).toInt()
            if (length == 0) break
            all += buffer.copyOf(length)
        }
        return all
    }

    override fun close() {
        Libc.close(ours)
    }
}
