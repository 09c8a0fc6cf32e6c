package io.anytls.mobile.android

import android.net.VpnService
import io.anytls.mobile.MemoryPressure
import io.anytls.mobile.Power
import io.anytls.mobile.Tunnel
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.channels.BufferOverflow
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.MutableSharedFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.collectLatest
import kotlinx.coroutines.flow.stateIn
import kotlinx.coroutines.launch

/** What Android says of the phone, passed on to the core. */
internal class Phone(private val service: VpnService) {
    val protector = SocketProtector(service)

    private val networkMonitor = NetworkMonitor(service)
    private val powerMonitor = PowerMonitor(service)
    private val pressure = MutableSharedFlow<MemoryPressure>(0, extraBufferCapacity = 1, BufferOverflow.DROP_OLDEST)

    /** Looks after network and power for as long as [scope] lives. */
    suspend fun watch(scope: CoroutineScope): Watch =
        Watch(networkMonitor.paths.stateIn(scope), powerMonitor.power.stateIn(scope))

    /** Tells a core that is about to start. */
    fun tell(core: Tunnel, watch: Watch) {
        protector.network = watch.path.value?.network
        core.networkChanged(watch.path.value?.name)
        core.setPower(watch.power.value)
    }

    /** Goes on telling the core and, of the network, Android. The interface has to be open. */
    fun keepTelling(core: Tunnel, watch: Watch, scope: CoroutineScope) {
        scope.launch {
            watch.path.collect {
                protector.network = it?.network
                // Data saver, battery statistics and other apps see the network below; none is "no connection".
                service.setUnderlyingNetworks(listOfNotNull(it?.network).toTypedArray())
                core.networkChanged(it?.name)
            }
        }
        scope.launch { watch.power.collect(core::setPower) }
        scope.launch {
            pressure.collectLatest {
                core.memoryPressure(it)
                // Android says when memory is short and never when it is not any more.
                delay(RELIEF_MS)
                core.memoryPressure(MemoryPressure.NORMAL)
            }
        }
    }

    fun memoryPressure(level: MemoryPressure) {
        pressure.tryEmit(level)
    }

    /** The network below the VPN, and how awake the phone is. */
    class Watch(val path: StateFlow<NetworkPath?>, val power: StateFlow<Power>)
}

/** Android repeats itself within seconds while memory stays short. A guess. */
private const val RELIEF_MS = 60_000L
