package io.anytls.mobile.android

import android.content.ComponentName
import android.content.Context
import android.content.Intent
import android.net.VpnService
import android.os.Build
import io.anytls.mobile.ConnectionInfo
import io.anytls.mobile.LatencyReport
import io.anytls.mobile.SessionInfo
import io.anytls.mobile.TunnelException
import io.anytls.mobile.TunnelStats
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import java.io.IOException
import java.util.concurrent.atomic.AtomicReference

/**
 * This app's VPN, for code in the process of the service. May be called on any thread; nothing here blocks.
 *
 * ```kotlin
 * val consent = AnyTlsVpn.prepare(context) // not null: startActivityForResult(consent, ..) first
 * AnyTlsVpn.start(context, VpnConfig("anytls://password@example.com/"))
 * AnyTlsVpn.state.collect { ... }
 * AnyTlsVpn.stop()
 * ```
 */
public object AnyTlsVpn {
    internal val shared = Shared()

    /** That of the service that lives. */
    @Volatile
    internal var controller: TunnelController? = null

    /** On its way to the service. */
    private val requested = AtomicReference<StartRequest?>()

    /** How the VPN is doing. */
    public val state: StateFlow<VpnState> = shared.state.asStateFlow()

    /** What was counted since the start: once a second while somebody collects it, the VPN is up and the screen on. */
    public val stats: Flow<TunnelStats> = shared.stats

    /** What to show the user before the first start; null when the user has agreed already. */
    public fun prepare(context: Context): Intent? = VpnService.prepare(context)

    /**
     * Turns the VPN on, or lets the one that is on go by another config. What comes of it is in [state].
     *
     * [config] null is the config of the last start.
     */
    public fun start(context: Context, config: VpnConfig? = null) {
        request(context, config)
    }

    /**
     * Like [start], and waits until the interface is there: [VpnState.Up], or why not. Being cancelled turns the VPN
     * off.
     *
     * A config that cannot be used does not end a VPN that is up: the answer is [VpnState.Failed], and [state] stays.
     */
    public suspend fun startAndAwait(context: Context, config: VpnConfig? = null): VpnState {
        val request = request(context, config)
        try {
            return request.outcome.await()
        } catch (e: CancellationException) {
            stop()
            throw e
        }
    }

    /** Turns the VPN off. Fine in every state. */
    public fun stop() {
        withdraw()
        controller?.stop()
    }

    /** Like [stop], and waits until the interface is gone: about a second, and longer behind a start under way. */
    public suspend fun stopAndAwait() {
        withdraw()
        controller?.stop()?.await() ?: shared.turn.withLock {} // a service that has gone may still be ending
    }

    /** The config of the last start, or of [save]; null when there is none. */
    public suspend fun savedConfig(context: Context): VpnConfig? = withContext(Dispatchers.IO) {
        ConfigStore(context).load()
    }

    /**
     * Keeps a config for always-on and for a start without one, without starting now.
     *
     * @throws IOException when it could not be written
     */
    public suspend fun save(context: Context, config: VpnConfig): Unit = withContext(Dispatchers.IO) {
        ConfigStore(context).save(config)
    }

    /** Forgets the saved config: always-on then has nothing to start with. What runs goes on. */
    public suspend fun forget(context: Context): Unit = withContext(Dispatchers.IO) { ConfigStore(context).clear() }

    /** The sessions with the server, oldest first. */
    public fun sessions(): List<SessionInfo> = shared.core.value?.unlessClosed { sessions() }.orEmpty()

    /** The apps' connections, oldest first. */
    public fun connections(): List<ConnectionInfo> = shared.core.value?.unlessClosed { connections() }.orEmpty()

    /** Resets a connection; false when none that lives has this number. */
    public fun closeConnection(id: ULong): Boolean = shared.core.value?.unlessClosed { closeConnection(id) } ?: false

    /**
     * Measures the server, by a session of its own to it and streams to [destination] (`host:port`).
     *
     * @throws TunnelException when the VPN is not up, or does not get through
     */
    public suspend fun testLatency(destination: String = "www.gstatic.com:80"): LatencyReport =
        shared.core.value?.unlessClosed { testLatency(destination) } ?: throw TunnelException.NotStarted()

    /** What the service has been started for; a request that nobody waits for when that was called off. */
    internal fun takeRequest(): StartRequest? = requested.getAndSet(null)

    private fun request(context: Context, config: VpnConfig?): StartRequest {
        // Whoever waits for a request that was replaced on its way gets the outcome of this one.
        val request = requested.updateAndGet { StartRequest(config, it?.outcome ?: CompletableDeferred()) }!!
        shared.state.update { it as? VpnState.Up ?: VpnState.Starting }
        val refusal = try {
            if (startService(context)) null else "the app declares no such service"
        } catch (e: IllegalStateException) { // from the background
            e.toString()
        } catch (e: SecurityException) {
            e.toString()
        }
        if (refusal != null && requested.compareAndSet(request, null)) {
            val failed = VpnState.Failed(VpnFailure.ServiceRefused(refusal))
            shared.state.compareAndSet(VpnState.Starting, failed)
            request.outcome.complete(failed)
        }
        return request
    }

    private fun startService(context: Context): Boolean {
        val service = serviceOf(context) ?: return false
        val intent = Intent(AnyTlsVpnService.ACTION_START).setComponent(service)
        val started = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.O) {
            context.startForegroundService(intent)
        } else {
            context.startService(intent)
        }
        return started != null
    }

    /** The app's own, of whatever class: Android finds it the same way for always-on. */
    private fun serviceOf(context: Context): ComponentName? {
        val intent = Intent(VpnService.SERVICE_INTERFACE).setPackage(context.packageName)
        val info = context.packageManager.queryIntentServices(intent, 0).firstOrNull()?.serviceInfo ?: return null
        return ComponentName(info.packageName, info.name)
    }

    private fun withdraw() {
        val request = requested.getAndSet(null) ?: return
        shared.state.compareAndSet(VpnState.Starting, VpnState.Stopped)
        request.outcome.complete(VpnState.Stopped)
    }
}
