package io.anytls.mobile.sample

import android.app.Application
import android.content.Context
import android.os.SystemClock
import android.util.Log
import io.anytls.mobile.LogLevel
import io.anytls.mobile.LogOptions
import io.anytls.mobile.TunnelException
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.android.VpnConfig
import io.anytls.mobile.android.VpnState
import io.anytls.mobile.sample.logic.LogBuffer
import io.anytls.mobile.sample.logic.Seen
import io.anytls.mobile.sample.logic.SpeedHistory
import io.anytls.mobile.sample.logic.Texts
import io.anytls.mobile.setLogLevel
import io.anytls.mobile.setLogger
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.MainScope
import kotlinx.coroutines.async
import kotlinx.coroutines.flow.SharingStarted
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.flow.stateIn
import kotlinx.coroutines.launch
import java.io.IOException

/** What outlives the screens. Android makes it as well when it starts the service without any, for always-on. */
class App : Application() {
    /** For what must not end with a screen. */
    val scope: CoroutineScope = MainScope()

    val log = LogBuffer()

    /** Filled by whoever shows it. */
    val speeds = SpeedHistory()

    /** The VPN's state, with its time: what counts down is counted from there. */
    lateinit var seen: StateFlow<Seen>
        private set

    private val settings get() = getSharedPreferences("settings", MODE_PRIVATE)

    /** How talkative the log is. */
    var logLevel: LogLevel
        get() = LogLevel.entries.find { it.name == settings.getString(LOG_LEVEL, null) } ?: LogLevel.INFO
        set(level) {
            settings.edit().putString(LOG_LEVEL, level.name).apply()
            setLogLevel(level)
        }

    override fun onCreate() {
        super.onCreate()
        try {
            setLogger(LogOptions(logLevel), log)
        } catch (e: TunnelException) {
            Log.w("AnyTLS", "there will be no log: $e")
        }
        val states = AnyTlsVpn.state.map { Seen(it, SystemClock.elapsedRealtime()) }
        seen = states.stateIn(scope, SharingStarted.Eagerly, Seen(AnyTlsVpn.state.value, SystemClock.elapsedRealtime()))
    }

    /**
     * Goes by another config from now on, at once where the VPN is on. Leaving the screen does not undo it.
     *
     * @return why not, for the user; null when all is well
     */
    suspend fun take(config: VpnConfig): String? = scope.async {
        when (AnyTlsVpn.state.value) {
            is VpnState.Up, VpnState.Starting -> {
                (AnyTlsVpn.startAndAwait(this@App, config) as? VpnState.Failed)?.cause?.message
            }
            VpnState.Stopped, VpnState.Stopping, is VpnState.Failed -> {
                try {
                    AnyTlsVpn.save(this@App, config)
                    null
                } catch (_: IOException) {
                    Texts.NOT_SAVED
                }
            }
        }
    }.await()

    /** Turns the VPN off, and keeps nothing of what it was started with. */
    suspend fun forget() {
        scope.launch {
            AnyTlsVpn.stopAndAwait()
            AnyTlsVpn.forget(this@App)
        }.join()
    }

    private companion object {
        const val LOG_LEVEL = "log_level"
    }
}

val Context.app: App get() = applicationContext as App
