package io.anytls.mobile.testing

import com.sun.jna.LastErrorException
import com.sun.jna.Library
import com.sun.jna.Memory
import com.sun.jna.Native

/** The system calls that Java has no words for: tests use descriptors as Android does. */
internal interface LibC : Library {
    @Throws(LastErrorException::class)
    fun socketpair(domain: Int, type: Int, protocol: Int, pair: IntArray): Int

    @Throws(LastErrorException::class)
    fun read(fd: Int, buffer: Memory, size: Long): Long

    @Throws(LastErrorException::class)
    fun write(fd: Int, buffer: ByteArray, size: Long): Long

    @Throws(LastErrorException::class)
    fun poll(entry: Memory, count: Long, timeoutMs: Int): Int

    @Throws(LastErrorException::class)
    fun close(fd: Int): Int

    companion object {
        val libc: LibC by lazy { Native.load("c", LibC::class.java) }

        const val AF_UNIX = 1
        const val SOCK_SEQPACKET = 5
        const val POLLIN: Short = 1
    }
}
