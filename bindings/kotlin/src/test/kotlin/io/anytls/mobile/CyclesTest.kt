package io.anytls.mobile

import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestInstance

/** What is left when tunnels are gone: nothing. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class CyclesTest {
    private val server = Server()
    private val config = config(server.port)

    @AfterAll
    fun close() = server.close()

    @Test
    fun `two hundred starts and stops leave no descriptors and no threads`() = runBlocking {
        Tunnel(AppPlatform()).use { tunnel ->
            val ears = Ears()
            suspend fun cycle() = PacketTun().use { tun ->
                val id = tunnel.subscribe(ears, null)
                tunnel.start(config, tun.fd)
                ears.awaitState<TunnelState.Connecting>()
                tunnel.stop()
                tunnel.unsubscribe(id)
                assertFalse(tun.isHeld)
            }
            assertNoGrowth(warmUp = 20, cycles = 200) { cycle() }
        }
    }

    @Test
    fun `objects and failed starts leave no descriptors and no threads`() = runBlocking {
        assertNoGrowth(warmUp = 20, cycles = 200) {
            Tunnel(AppPlatform()).use { tunnel ->
                PacketTun().use { tun ->
                    tunnel.subscribe(Ears(), null)
                    assertThrows(TunnelException.Config::class.java) { runBlocking { tunnel.start("{}", tun.fd) } }
                    assertFalse(tun.isHeld)
                }
            }
        }
    }

    @Test
    fun `an object that is closed while its tunnel runs turns it off`() = runBlocking {
        PacketTun().use { tun ->
            Tunnel(null).use { tunnel -> tunnel.start(config, tun.fd) }
            waitUntil("the TUN is let go") { !tun.isHeld }
        }
    }

    @Test
    fun `an object that is closed hears no calls`() = runBlocking {
        val tunnel = Tunnel(null)
        tunnel.close()
        tunnel.close()
        assertThrows(IllegalStateException::class.java) { tunnel.state() }
        assertThrows(IllegalStateException::class.java) { runBlocking { tunnel.stop() } }
        Unit
    }

    /** The JVM opens files and starts threads of its own: a leak would be one a cycle. */
    private suspend fun assertNoGrowth(warmUp: Int, cycles: Int, cycle: suspend () -> Unit) {
        repeat(warmUp) { cycle() }
        val (fds, tasks) = descriptors().size to threads().size
        repeat(cycles) { cycle() }
        waitUntil("descriptors and threads are as few as before") {
            descriptors().size < fds + cycles / 4 && threads().size < tasks + cycles / 4
        }
        assertTrue(fds > 0 && tasks > 0)
    }
}
