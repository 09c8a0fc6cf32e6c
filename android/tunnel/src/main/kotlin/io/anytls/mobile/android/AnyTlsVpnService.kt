package io.anytls.mobile.android

import android.app.Notification
import android.content.ComponentCallbacks2.TRIM_MEMORY_COMPLETE
import android.content.ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL
import android.content.ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN
import android.content.Intent
import android.net.VpnService
import android.util.Log
import io.anytls.mobile.MemoryPressure
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch

/**
 * The service that Android sees. Apps start and stop it through [AnyTlsVpn]; Android starts it for always-on and after
 * the process was killed, and it then goes by the config of the last start.
 *
 * Subclass it to change how it looks or what it opens; the hooks are called on whatever thread needs them. One that
 * throws makes the start fail ([VpnFailure.NotEstablished]); the notification is then shown as it is.
 */
public open class AnyTlsVpnService : VpnService() {
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default)
    private lateinit var controller: TunnelController

    override fun onCreate() {
        super.onCreate()
        controller = TunnelController(this, AnyTlsVpn.shared)
        AnyTlsVpn.controller = controller
        scope.launch { controller.run() }.invokeOnCompletion { controller.close() }
    }

    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int): Int {
        val request = if (intent?.action == ACTION_START) AnyTlsVpn.takeRequest() else StartRequest(config = null)
        controller.start(request, startId)
        return START_STICKY
    }

    /** Android has closed the interface already. */
    override fun onRevoke() {
        controller.fail(VpnFailure.Revoked)
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        pressureOf(level)?.let(controller::memoryPressure)
    }

    override fun onDestroy() {
        if (AnyTlsVpn.controller === controller) AnyTlsVpn.controller = null // a new service may be there already
        scope.cancel()
        super.onDestroy()
    }

    /** The last word on the options of each start, which are those of its [VpnConfig]. */
    protected open fun onOptions(options: VpnOptions): VpnOptions = options

    /** The last word on the interface, before it is opened. What comes from config and options is set already. */
    protected open fun onInterface(builder: Builder) {}

    /** The last word on the notification. [speed] is null where it is not known. */
    protected open fun onNotification(builder: Notification.Builder, state: VpnState, speed: Speed?) {}

    internal fun adjust(options: VpnOptions): VpnOptions = hook("onOptions") { onOptions(options) }

    internal fun configure(builder: Builder): Unit = hook("onInterface") { onInterface(builder) }

    internal fun decorate(builder: Notification.Builder, state: VpnState, speed: Speed?) {
        try {
            hook("onNotification") { onNotification(builder, state, speed) }
        } catch (e: VpnInterface.Refused) {
            Log.e(TAG, "the notification is shown as it is", e)
        }
    }

    private fun <T> hook(name: String, call: () -> T): T = try {
        call()
    } catch (e: Exception) { // the app's own code
        throw VpnInterface.Refused("$name threw $e", e)
    }

    internal companion object {
        /** Sent by [AnyTlsVpn], which holds what is to be started. */
        const val ACTION_START = "io.anytls.mobile.android.START"
    }
}

/** Null where Android's word has nothing to do with memory. From Android 14 on it sends only some of these. */
@Suppress("DEPRECATION")
internal fun pressureOf(trimLevel: Int): MemoryPressure? = when (trimLevel) {
    TRIM_MEMORY_RUNNING_CRITICAL, TRIM_MEMORY_COMPLETE -> MemoryPressure.CRITICAL
    TRIM_MEMORY_UI_HIDDEN -> null
    else -> MemoryPressure.LOW
}
