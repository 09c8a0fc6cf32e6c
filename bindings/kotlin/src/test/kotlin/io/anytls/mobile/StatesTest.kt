package io.anytls.mobile

import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestInstance

/** What a tunnel says of how it is doing. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class StatesTest {
    private val server = Server()
    private val config = config(server.port)

    @AfterAll
    fun close() = server.close()

    @Test
    fun `a tunnel goes from stopped to connected to stopped, in that order`() = runBlocking {
        Tunnel(null).use { tunnel ->
            PacketTun().use { tun ->
                val ears = Ears()
                tunnel.subscribe(ears, null)
                ears.awaitState<TunnelState.Stopped>()
                tunnel.start(config, tun.fd)
                ears.awaitState<TunnelState.Connected>()
                assertEquals(TunnelState.Connected, tunnel.state())
                tunnel.stop()
                ears.awaitState<TunnelState.Stopped>()
                // One that passes quickly may be missed, and none comes out of turn.
                val order = listOf(
                    TunnelState.Stopped,
                    TunnelState.Starting,
                    TunnelState.Connecting,
                    TunnelState.Connected,
                    TunnelState.Stopping,
                    TunnelState.Stopped,
                )
                val heard = ears.states.toList()
                assertTrue(isInOrder(heard, order)) { "$heard" }
            }
        }
    }

    @Test
    fun `a server that goes away is waited for, and found again`() {
        val first = Server()
        withTunnel(config(first.port, server = OFTEN)) {
            ears.awaitState<TunnelState.Connected>()
            first.close()
            // A dial may have met the server while it was going.
            val state = ears.awaitState<TunnelState.Reconnecting> { it.failure.code == "dial.refused" }
            assertFailure(state.failure, "dial.refused", isRetryable = true)
            assertTrue(state.attempt >= 1u) { "$state" }
            assertTrue(tunnel.stats().pool.dialsFailed > 0uL)
            Server(first.port).use {
                ears.awaitState<TunnelState.Connected>()
                tunnel.stop()
            }
        }
    }

    @Test
    fun `without a network the tunnel waits for one`() = withTunnel(config) {
        ears.awaitState<TunnelState.Connected>()
        tunnel.networkChanged(null)
        ears.awaitState<TunnelState.WaitingForNetwork>()
        tunnel.networkChanged("wifi")
        ears.awaitState<TunnelState.Connected>()
    }

    @Test
    fun `a phone that dozes pauses the tunnel`() = withTunnel(config) {
        ears.awaitState<TunnelState.Connected>()
        tunnel.setPower(Power.DOZE)
        ears.awaitState<TunnelState.Paused>()
        tunnel.setPower(Power.INTERACTIVE)
        ears.awaitState<TunnelState.Connected>()
    }

    @Test
    fun `what is said of the phone before a start counts for it`() = runBlocking {
        Tunnel(null).use { tunnel ->
            PacketTun().use { tun ->
                val ears = Ears()
                tunnel.subscribe(ears, null)
                tunnel.setPower(Power.SLEEPING)
                tunnel.memoryPressure(MemoryPressure.LOW)
                tunnel.start(config, tun.fd)
                ears.awaitState<TunnelState.Paused>()
                waitUntil("the pressure is seen") { tunnel.stats().memory.pressure == MemoryPressure.LOW }
                tunnel.memoryPressure(MemoryPressure.NORMAL)
                waitUntil("it is gone") { tunnel.stats().memory.pressure == MemoryPressure.NORMAL }
                tunnel.stop()
            }
        }
    }

    @Test
    fun `a TUN that is taken away ends the tunnel, which can be started with another`() = withTunnel(config) {
        ears.awaitState<TunnelState.Connected>()
        tun.close()
        val state = ears.awaitState<TunnelState.Failed>()
        assertFailure(state.failure, "tunnel.ended", isRetryable = true)
        assertFalse(state.isTrafficBlocked) // with the TUN, its routes are gone
        waitUntil("the TUN is let go") { !tun.isHeld }

        PacketTun().use { another ->
            tunnel.start(config, another.fd)
            ears.awaitState<TunnelState.Connected>()
            another.send(Packets.ping("172.19.0.1", "192.0.2.1", byteArrayOf(1)))
            another.receive()
            tunnel.stop()
            assertFalse(another.isHeld)
        }
    }

    @Test
    fun `a listener that comes late hears the state as it is`() = withTunnel(config) {
        ears.awaitState<TunnelState.Connected>()
        val late = Ears()
        tunnel.subscribe(late, null)
        late.awaitState<TunnelState.Connected>()
        assertEquals(listOf<TunnelState>(TunnelState.Connected), late.states)
    }

    private fun isInOrder(heard: List<TunnelState>, order: List<TunnelState>): Boolean {
        val rest = order.iterator()
        return heard.all { state ->
            while (rest.hasNext()) if (rest.next() == state) return@all true
            false
        }
    }

    private companion object {
        /** Nobody waits for a session in these tests: the next is dialled when the pool looks after itself. */
        const val OFTEN = """"idle_session_check_interval": "1s""""
    }
}
