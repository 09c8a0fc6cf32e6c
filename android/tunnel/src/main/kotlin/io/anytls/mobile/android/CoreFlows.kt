package io.anytls.mobile.android

import android.util.Log
import io.anytls.mobile.Event
import io.anytls.mobile.EventListener
import io.anytls.mobile.Tunnel
import io.anytls.mobile.TunnelException
import io.anytls.mobile.TunnelState
import io.anytls.mobile.TunnelStats
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.channels.awaitClose
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.callbackFlow
import kotlinx.coroutines.flow.conflate
import java.time.Duration

/** The core's state, first as it is. A slow collector misses states in between, never the last one. */
internal fun Tunnel.states(): Flow<TunnelState> = events(null) { (it as? Event.State)?.state }

/** The core's counters, while it runs and the screen is on. */
internal fun Tunnel.statsEvery(interval: Duration): Flow<TunnelStats> = events(interval) { (it as? Event.Stats)?.stats }

private fun <T : Any> Tunnel.events(interval: Duration?, pick: (Event) -> T?): Flow<T> = callbackFlow {
    val listener = object : EventListener {
        override fun onEvent(event: Event) {
            pick(event)?.let { trySend(it) }
        }
    }
    val id = try {
        unlessClosed { subscribe(listener, interval) }
    } catch (e: TunnelException) { // the phone has no thread left
        Log.w(TAG, "the core cannot be listened to", e)
        null
    }
    awaitClose { if (id != null) unlessClosed { unsubscribe(id) } }
}.conflate()

/**
 * What the block returns, or null when the service has just ended and closed its core: whoever looks from outside may
 * come too late at any moment.
 */
internal inline fun <T> Tunnel.unlessClosed(block: Tunnel.() -> T): T? = try {
    block()
} catch (e: CancellationException) { // an IllegalStateException, too
    throw e
} catch (_: IllegalStateException) { // UniFFI's word for a call on a closed object
    null
}
