package io.anytls.mobile.android

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.content.pm.ServiceInfo
import android.os.Build
import android.text.format.Formatter
import io.anytls.mobile.Power
import io.anytls.mobile.TunnelState
import io.anytls.mobile.TunnelStats
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.collectLatest
import kotlinx.coroutines.flow.combine
import kotlinx.coroutines.flow.conflate
import kotlinx.coroutines.flow.distinctUntilChanged
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.flow.onStart

/** The notification that a service in the foreground has to show. */
internal class TunnelNotification(private val service: AnyTlsVpnService) {
    private val manager = service.getSystemService(NotificationManager::class.java)!!

    /** Puts the service in the foreground; null, or why the system did not let it. */
    fun goForeground(state: VpnState): String? {
        openChannel()
        val notification = build(state, null)
        var refusal: String? = null
        for (type in foregroundTypes()) {
            try {
                if (type == null) {
                    service.startForeground(ID, notification)
                } else {
                    service.startForeground(ID, notification, type)
                }
                return null
            } catch (e: RuntimeException) { // not prepared, not declared, not now: the exceptions differ by release
                refusal = e.toString()
            }
        }
        return refusal
    }

    /** Follows states and speed while somebody can see it, at most once a second. */
    suspend fun follow(states: Flow<VpnState>, stats: Flow<TunnelStats>, power: Flow<Power>) {
        var posted: VpnState? = null
        power.map { it == Power.INTERACTIVE }.distinctUntilChanged().collectLatest { isSeen ->
            if (!isSeen) return@collectLatest
            val meter = SpeedMeter()
            val speeds = stats.map { meter.next(it.traffic, System.nanoTime() / NANOS_PER_MS) }.onStart { emit(null) }
            combine(states, speeds, ::Pair).distinctUntilChanged().conflate().collect { (state, speed) ->
                // Once the user has swiped it away, which Android 13 allows, only another state brings it back.
                if (state == posted && manager.activeNotifications.none { it.id == ID }) return@collect
                manager.notify(ID, build(state, speed))
                posted = state
                delay(UPDATE_MS)
            }
        }
    }

    private fun openChannel() {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.O) return
        manager.createNotificationChannel(NotificationChannel(CHANNEL, "VPN", NotificationManager.IMPORTANCE_LOW))
    }

    private fun build(state: VpnState, speed: Speed?): Notification {
        val builder = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.O) {
            Notification.Builder(service, CHANNEL)
        } else {
            @Suppress("DEPRECATION") // channels came with Android 8
            Notification.Builder(service).setPriority(Notification.PRIORITY_LOW)
        }
        builder.setSmallIcon(android.R.drawable.ic_lock_lock)
            .setContentTitle(service.applicationInfo.loadLabel(service.packageManager))
            .setContentText(speed?.takeIf { state.isConnected }?.let(::text) ?: text(state))
            .setContentIntent(openApp())
            .setCategory(Notification.CATEGORY_SERVICE)
            .setOngoing(true)
            .setOnlyAlertOnce(true)
            .setShowWhen(false)
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) {
            builder.setForegroundServiceBehavior(Notification.FOREGROUND_SERVICE_IMMEDIATE)
        }
        service.decorate(builder, state, speed)
        return builder.build()
    }

    private fun text(speed: Speed): String = "↑ ${rate(speed.upBytesPerSecond)}  ↓ ${rate(speed.downBytesPerSecond)}"

    private fun rate(bytes: Long): String = Formatter.formatShortFileSize(service, bytes) + "/s"

    private fun openApp(): PendingIntent? = service.packageManager.getLaunchIntentForPackage(service.packageName)?.let {
        PendingIntent.getActivity(service, 0, it, PendingIntent.FLAG_IMMUTABLE)
    }

    private companion object {
        const val ID = 0x414e59
        const val CHANNEL = "io.anytls.mobile.vpn"
        const val UPDATE_MS = 1000L
        const val NANOS_PER_MS = 1_000_000L
    }
}

/**
 * From Android 14 the type has to be named. Apps that the user has allowed to open a VPN may use the first; the second
 * is for the moment before, when all there is to say is that the user has to allow it.
 */
private fun foregroundTypes(): List<Int?> = when {
    Build.VERSION.SDK_INT < Build.VERSION_CODES.UPSIDE_DOWN_CAKE -> listOf(null)
    else -> listOf(
        ServiceInfo.FOREGROUND_SERVICE_TYPE_SYSTEM_EXEMPTED,
        ServiceInfo.FOREGROUND_SERVICE_TYPE_SPECIAL_USE,
    )
}

/** Whether the speed says more than the state does. */
private val VpnState.isConnected: Boolean get() = this is VpnState.Up && tunnel == TunnelState.Connected

/** For the user, in English. */
internal fun text(state: VpnState): String = when (state) {
    VpnState.Stopped -> "Off"
    VpnState.Starting -> "Starting"
    VpnState.Stopping -> "Stopping"
    is VpnState.Failed -> state.cause.message
    is VpnState.Up -> text(state.tunnel)
}

private fun text(state: TunnelState): String = when (state) {
    TunnelState.Stopped -> "Off"
    TunnelState.Starting, TunnelState.Connecting -> "Connecting"
    TunnelState.Connected -> "Connected"
    TunnelState.WaitingForNetwork -> "Waiting for a network"
    TunnelState.Paused -> "Paused"
    TunnelState.Stopping -> "Stopping"
    is TunnelState.Degraded -> state.failure.userMessage
    is TunnelState.Reconnecting -> "Reconnecting: ${state.failure.userMessage}"
    is TunnelState.Failed -> state.failure.userMessage
}
