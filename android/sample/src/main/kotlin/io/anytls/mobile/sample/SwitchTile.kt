package io.anytls.mobile.sample

import android.app.PendingIntent
import android.content.Intent
import android.os.Build
import android.os.SystemClock
import android.service.quicksettings.Tile
import android.service.quicksettings.TileService
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.sample.logic.Seen
import io.anytls.mobile.sample.logic.Texts
import io.anytls.mobile.sample.logic.ViewState
import kotlinx.coroutines.Job
import kotlinx.coroutines.MainScope
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch

/** The switch among the quick settings. */
class SwitchTile : TileService() {
    private val scope = MainScope()
    private var listening: Job? = null

    override fun onStartListening() {
        listening?.cancel()
        listening = scope.launch { app.seen.collect(::render) }
    }

    override fun onStopListening() {
        listening?.cancel()
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }

    override fun onClick() {
        if (view(app.seen.value).isOn) {
            // Whoever finds a locked phone must not lay its traffic open.
            unlockAndRun { AnyTlsVpn.stop() }
        } else {
            app.scope.launch { turnOn() } // Android may end the tile meanwhile
        }
    }

    private suspend fun turnOn() {
        val isReady = AnyTlsVpn.prepare(this) == null && AnyTlsVpn.savedConfig(this) != null
        if (isReady) AnyTlsVpn.start(app) else openApp()
    }

    /** Where the user is asked for what is missing. */
    @Suppress("DEPRECATION", "StartActivityAndCollapseDeprecated") // the other one came with Android 14
    private fun openApp() {
        val intent = Intent(this, MainActivity::class.java).addFlags(Intent.FLAG_ACTIVITY_NEW_TASK)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.UPSIDE_DOWN_CAKE) {
            startActivityAndCollapse(PendingIntent.getActivity(this, 0, intent, PendingIntent.FLAG_IMMUTABLE))
        } else {
            startActivityAndCollapse(intent)
        }
    }

    private fun render(seen: Seen) {
        val tile = qsTile ?: return
        val view = view(seen)
        tile.label = Texts.APP_NAME
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) tile.subtitle = view.headline
        tile.state = when {
            !view.canSwitch -> Tile.STATE_UNAVAILABLE
            view.isOn -> Tile.STATE_ACTIVE
            else -> Tile.STATE_INACTIVE
        }
        tile.updateTile()
    }

    private fun view(seen: Seen) = ViewState.of(seen, SystemClock.elapsedRealtime(), hasConfig = true)
}
