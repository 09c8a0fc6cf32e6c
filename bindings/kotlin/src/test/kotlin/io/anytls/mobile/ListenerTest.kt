package io.anytls.mobile

import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestInstance
import java.time.Duration
import java.util.concurrent.CompletableFuture
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicBoolean
import java.util.concurrent.atomic.AtomicInteger

/** Listeners, good ones and bad ones. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class ListenerTest {
    private val server = Server()
    private val config = config(server.port)
    private val often = Duration.ofMillis(100)

    @AfterAll
    fun close() = server.close()

    @Test
    fun `a listener that throws ends nothing and hears what comes next`() = withoutPrintedErrors {
        val throws = listOf<(Event) -> Unit>(
            { throw CallbackException.Failed("not now") },
            { error("not now") },
            { throw StackOverflowError("not now") },
        )
        for (react in throws) {
            withTunnel(config) {
                val bad = Ears(react)
                tunnel.subscribe(bad, often)
                bad.awaitState<TunnelState.Connected>()
                bad.awaitEvent<Event.Stats>()
                ears.awaitState<TunnelState.Connected>()
                tunnel.setPower(Power.DOZE)
                bad.awaitState<TunnelState.Paused>()
            }
        }
    }

    @Test
    fun `a listener may stop the tunnel, and hears nothing after that`() = withTunnel(config) {
        val hasStopped = AtomicBoolean(false)
        val late = AtomicInteger(0)
        val stopped = CompletableFuture<TunnelState>()
        val stopper = Ears { event ->
            if (hasStopped.get()) late.incrementAndGet()
            if (event == Event.State(TunnelState.Connected)) {
                runBlocking { tunnel.stop() }
                hasStopped.set(true)
                stopped.complete(tunnel.state())
            }
        }
        val other = Ears { if (hasStopped.get()) late.incrementAndGet() }
        tunnel.subscribe(stopper, often)
        tunnel.subscribe(other, often)
        assertEquals(TunnelState.Stopped, stopped.get(PATIENCE_SECONDS, TimeUnit.SECONDS))
        assertFalse(tun.isHeld)
        // What else might be told; a listener of another tunnel hears as much as would have been enough.
        tunnel.setPower(Power.DOZE)
        tunnel.setPower(Power.INTERACTIVE)
        tunnel.networkChanged(null)
        withTunnel(config) {
            val control = Ears()
            tunnel.subscribe(control, often)
            repeat(3) { control.awaitEvent<Event.Stats>() }
        }
        assertEquals(0, late.get())
    }

    @Test
    fun `nothing is heard after a stop has returned, and all again after the next start`() = withTunnel(config) {
        val hasStopped = AtomicBoolean(false)
        val late = AtomicInteger(0)
        val slow = Ears {
            if (hasStopped.get()) late.incrementAndGet()
            Thread.yield()
        }
        tunnel.subscribe(slow, often)
        slow.awaitEvent<Event.Stats>()
        tunnel.stop()
        hasStopped.set(true)
        assertEquals(TunnelState.Stopped, slow.states.last())
        tunnel.networkChanged("another")
        assertEquals(0, late.get())

        hasStopped.set(false)
        slow.drain()
        PacketTun().use { again ->
            tunnel.start(config, again.fd)
            slow.awaitState<TunnelState.Connected>()
            slow.awaitEvent<Event.Stats>()
            tunnel.stop()
        }
    }

    @Test
    fun `a listener may unsubscribe itself and others`() = withTunnel(config) {
        ears.awaitState<TunnelState.Connected>()
        val left = CompletableFuture<Unit>()
        val calls = AtomicInteger(0)
        val ids = CompletableFuture<List<ULong>>()
        val leaver = Ears {
            calls.incrementAndGet()
            ids.get(PATIENCE_SECONDS, TimeUnit.SECONDS).forEach(tunnel::unsubscribe)
            left.complete(Unit)
        }
        val own = tunnel.subscribe(leaver, often)
        val other = Ears()
        val others = tunnel.subscribe(other, often)
        ids.complete(listOf(own, others))
        left.get(PATIENCE_SECONDS, TimeUnit.SECONDS)
        other.drain()

        val control = Ears()
        tunnel.subscribe(control, often)
        repeat(3) { control.awaitEvent<Event.Stats>() }
        tunnel.setPower(Power.DOZE)
        control.awaitState<TunnelState.Paused>()
        assertEquals(1, calls.get())
        assertEquals(emptyList<Event>(), other.drain())
    }

    @Test
    fun `stats are told while somebody looks at the phone`() = withTunnel(config) {
        val watcher = Ears()
        tunnel.subscribe(watcher, often)
        repeat(2) { watcher.awaitEvent<Event.Stats>() }

        tunnel.setPower(Power.BACKGROUND)
        withTunnel(config) {
            val control = Ears()
            tunnel.subscribe(control, often)
            control.awaitEvent<Event.Stats>()
            watcher.drain() // what was under way
            repeat(5) { control.awaitEvent<Event.Stats>() }
        }
        val heard = watcher.drain().filterIsInstance<Event.Stats>()
        assertEquals(emptyList<Event.Stats>(), heard)

        tunnel.setPower(Power.INTERACTIVE)
        val event = watcher.awaitEvent<Event.Stats>()
        assertTrue(event.stats.pool.dialed > 0uL) { "$event" }
    }

    @Test
    fun `without an interval there are no stats`() = withTunnel(config) {
        val control = Ears()
        tunnel.subscribe(control, often)
        repeat(3) { control.awaitEvent<Event.Stats>() }
        assertEquals(emptyList<Event>(), ears.drain().filterIsInstance<Event.Stats>())
    }

    @Test
    fun `a tunnel that was never started tells that it is off`() {
        Tunnel(null).use { tunnel ->
            val ears = Ears()
            val id = tunnel.subscribe(ears, often)
            ears.awaitState<TunnelState.Stopped>()
            tunnel.unsubscribe(id)
            tunnel.unsubscribe(id)
            tunnel.unsubscribe(4711uL)
            assertEquals(listOf<TunnelState>(TunnelState.Stopped), ears.states)
        }
    }
}
