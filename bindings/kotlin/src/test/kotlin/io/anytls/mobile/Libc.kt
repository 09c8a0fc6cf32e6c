package io.anytls.mobile

import com.sun.jna.LastErrorException
import com.sun.jna.Library
import com.sun.jna.Native
import com.sun.jna.NativeLong
import java.io.IOException
import java.nio.file.Files
import java.nio.file.Path

/** What the tests ask of the system itself. A call that fails throws what `errno` says. */
internal interface Libc : Library {
    @Throws(LastErrorException::class)
    fun socketpair(domain: Int, type: Int, protocol: Int, pair: IntArray): Int

    @Throws(LastErrorException::class)
    fun pipe(pair: IntArray): Int

    @Throws(LastErrorException::class)
    fun read(fd: Int, buffer: ByteArray, size: Long): Long

    @Throws(LastErrorException::class)
    fun write(fd: Int, buffer: ByteArray, size: Long): Long

    @Throws(LastErrorException::class)
    fun close(fd: Int): Int

    @Throws(LastErrorException::class)
    fun fcntl(fd: Int, command: Int): Int

    @Throws(LastErrorException::class)
    fun poll(entry: ByteArray, count: Long, timeoutMs: Int): Int

    @Throws(LastErrorException::class)
    fun getpeername(fd: Int, address: ByteArray, length: IntArray): Int

    @Throws(LastErrorException::class)
    fun open(path: String, flags: Int): Int

    @Throws(LastErrorException::class)
    fun ioctl(fd: Int, request: NativeLong, argument: ByteArray): Int

    @Throws(LastErrorException::class)
    fun unshare(what: Int): Int

    @Throws(LastErrorException::class)
    fun mkfifo(path: String, mode: Int): Int

    @Throws(LastErrorException::class)
    fun getrlimit(resource: Int, limits: LongArray): Int

    @Throws(LastErrorException::class)
    fun setrlimit(resource: Int, limits: LongArray): Int

    fun geteuid(): Int

    companion object : Libc by Native.load("c", Libc::class.java)
}

internal const val AF_UNIX = 1
internal const val SOCK_STREAM = 1
internal const val SOCK_SEQPACKET = 5
internal const val O_RDWR = 2
internal const val O_CLOEXEC = 0x80000
internal const val F_GETFD = 1
internal const val CLONE_NEWNET = 0x40000000
internal const val RLIMIT_NOFILE = 7
internal const val ENOTCONN = 107

/** Whether this process has a descriptor of that number. */
internal fun isOpen(fd: Int): Boolean = try {
    Libc.fcntl(fd, F_GETFD) >= 0
} catch (_: LastErrorException) {
    false
}

/** What a descriptor stands for, such as `socket:[4711]`: numbers are used again, this is not. */
internal fun fileOf(fd: Int): String = Files.readSymbolicLink(Path.of("/proc/self/fd/$fd")).toString()

/** The descriptors of this process that stand for [file]. */
internal fun holdersOf(file: String): List<Int> = descriptors().filter { fd ->
    try {
        fileOf(fd) == file
    } catch (_: IOException) {
        false // closed since it was listed
    }
}

internal fun descriptors(): List<Int> = entries("/proc/self/fd")

internal fun threads(): List<Int> = entries("/proc/self/task")

private fun entries(folder: String): List<Int> =
    Files.newDirectoryStream(Path.of(folder)).use { paths -> paths.map { it.fileName.toString().toInt() } }
