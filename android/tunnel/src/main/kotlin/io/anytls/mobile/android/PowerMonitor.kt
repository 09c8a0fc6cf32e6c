package io.anytls.mobile.android

import android.content.BroadcastReceiver
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.PowerManager
import io.anytls.mobile.Power
import kotlinx.coroutines.channels.awaitClose
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.callbackFlow
import kotlinx.coroutines.flow.conflate
import kotlinx.coroutines.flow.distinctUntilChanged

/** How awake the phone is. */
internal class PowerMonitor(private val context: Context) {
    private val manager = context.getSystemService(PowerManager::class.java)!!

    /** First as it is, then whenever it is another. */
    val power: Flow<Power> = callbackFlow {
        val receiver = object : BroadcastReceiver() {
            override fun onReceive(context: Context, intent: Intent) {
                trySend(now())
            }
        }
        context.registerReceiver(receiver, CHANGES)
        trySend(now())
        awaitClose { context.unregisterReceiver(receiver) }
    }.conflate().distinctUntilChanged()

    private fun now(): Power = powerOf(manager.isInteractive, manager.isDeviceIdleMode, manager.isPowerSaveMode)
}

/**
 * With the battery saver on, a dark screen counts as Doze: no beats. A lit one counts in full: somebody is waiting.
 */
internal fun powerOf(isInteractive: Boolean, isIdle: Boolean, isPowerSave: Boolean): Power = when {
    isIdle -> Power.DOZE
    isInteractive -> Power.INTERACTIVE
    isPowerSave -> Power.DOZE
    else -> Power.BACKGROUND
}

/** Sent by the system alone, and only to receivers that are registered while the app runs. */
private val CHANGES = IntentFilter().apply {
    addAction(Intent.ACTION_SCREEN_ON)
    addAction(Intent.ACTION_SCREEN_OFF)
    addAction(PowerManager.ACTION_DEVICE_IDLE_MODE_CHANGED)
    addAction(PowerManager.ACTION_POWER_SAVE_MODE_CHANGED)
}
