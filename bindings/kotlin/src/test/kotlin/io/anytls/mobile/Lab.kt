package io.anytls.mobile

import com.sun.jna.LastErrorException
import com.sun.jna.NativeLong
import org.junit.jupiter.api.Assumptions.assumeTrue
import java.nio.file.Files
import java.nio.file.Path
import java.util.concurrent.Callable
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit

/**
 * A network namespace in which apps live, with a TUN of the kernel's as the only way out. A namespace belongs to a
 * thread: what [run] runs is in it, and whoever calls [run] is not.
 */
internal class Lab : AutoCloseable {
    private val inside = Executors.newSingleThreadExecutor { Thread(it, "apps") }

    /** To be handed over, once. */
    val tun: Int

    init {
        assumeTrue(Libc.geteuid() == 0, "SKIP: a network namespace wants root")
        assumeTrue(Files.exists(Path.of("/dev/net/tun")), "SKIP: no /dev/net/tun")
        assumeTrue(run { mayUnshare() }, "SKIP: no permission for a network namespace")
        tun = run { openTun() }
        run {
            ip("addr add $ADDRESS/30 dev $NAME")
            ip("link set $NAME mtu 9000 up")
            ip("route add default dev $NAME")
        }
    }

    fun <T> run(work: () -> T): T = inside.submit(Callable(work)).get(2 * PATIENCE_SECONDS, TimeUnit.SECONDS)

    override fun close() = inside.shutdown()

    private fun mayUnshare() = try {
        Libc.unshare(CLONE_NEWNET) == 0
    } catch (_: LastErrorException) {
        false
    }

    private fun openTun(): Int {
        val fd = Libc.open("/dev/net/tun", O_RDWR or O_CLOEXEC)
        val request = NAME.toByteArray().copyOf(IFREQ_BYTES)
        request[IFNAMSIZ] = IFF_TUN
        request[IFNAMSIZ + 1] = IFF_NO_PI_HIGH
        Libc.ioctl(fd, NativeLong(TUNSETIFF), request)
        return fd
    }

    private fun ip(words: String) {
        val program = ProcessBuilder(listOf("ip") + words.split(' ')).redirectErrorStream(true).start()
        val said = program.inputStream.bufferedReader().readText()
        check(program.waitFor() == 0) { "ip $words: $said" }
    }

    companion object {
        /** What a config has for the interface when it says nothing. */
        const val ADDRESS = "172.19.0.1"

        /** Routed into the TUN, as every address is: whatever asks on port 53 is answered there. */
        const val NAME_SERVER = "172.19.0.2"

        private const val NAME = "tun0"
        private const val IFREQ_BYTES = 40
        private const val IFNAMSIZ = 16
        private const val IFF_TUN: Byte = 0x01
        private const val IFF_NO_PI_HIGH: Byte = 0x10 // IFF_NO_PI is 0x1000
        private const val TUNSETIFF = 0x4004_54CAL
    }
}
