package io.anytls.mobile.android

import io.anytls.mobile.Tunnel
import io.anytls.mobile.TunnelStats
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.channelFlow
import kotlinx.coroutines.flow.collectLatest
import kotlinx.coroutines.flow.conflate
import kotlinx.coroutines.sync.Mutex
import java.time.Duration

/** What the services of a process share, one after the other. */
internal class Shared {
    val state = MutableStateFlow<VpnState>(VpnState.Stopped)

    /** The core of the service that lives, for questions from outside. */
    val core = MutableStateFlow<Tunnel?>(null)

    /** The counters of whatever core there is. */
    val stats: Flow<TunnelStats> = channelFlow {
        core.collectLatest { tunnel -> tunnel?.statsEvery(STATS_INTERVAL)?.collect { send(it) } }
    }.conflate()

    /** Held by the controller that owns a core: a new service waits until the one before it has let go. */
    val turn = Mutex()

    private companion object {
        val STATS_INTERVAL: Duration = Duration.ofSeconds(1)
    }
}
