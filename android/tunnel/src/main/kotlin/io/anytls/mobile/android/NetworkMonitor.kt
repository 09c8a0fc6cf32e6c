package io.anytls.mobile.android

import android.content.Context
import android.net.ConnectivityManager
import android.net.LinkProperties
import android.net.Network
import android.net.NetworkCapabilities
import android.net.NetworkRequest
import android.os.Build
import android.os.Handler
import android.os.Looper
import android.util.Log
import kotlinx.coroutines.channels.awaitClose
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.callbackFlow
import kotlinx.coroutines.flow.conflate
import kotlinx.coroutines.flow.distinctUntilChanged
import kotlinx.coroutines.launch
import java.net.InetAddress
import java.util.concurrent.atomic.AtomicBoolean

/** Which network carries the VPN: the one that Android would use if there were no VPN. */
internal class NetworkMonitor(context: Context) {
    private val manager = context.getSystemService(ConnectivityManager::class.java)!!

    /**
     * The best network, null while there is none, anew when the phone loses an address there. The first value comes
     * within half a second: Android says nothing at all while there is no network, and so silence counts as an answer.
     */
    val paths: Flow<NetworkPath?> = callbackFlow {
        val answered = AtomicBoolean()
        val callback = object : ConnectivityManager.NetworkCallback() {
            private var best: NetworkPath? = null
            private var addresses = emptySet<InetAddress>()

            override fun onAvailable(network: Network) {
                if (network == best?.network) return
                addresses = manager.getLinkProperties(network).addresses()
                say(NetworkPath(network))
            }

            // Sockets die with their address, and do not mind another one beside it.
            override fun onLinkPropertiesChanged(network: Network, properties: LinkProperties) {
                val path = best?.takeIf { it.network == network } ?: return
                val before = addresses
                addresses = properties.addresses()
                if (!addresses.containsAll(before)) say(path.copy(generation = path.generation + 1))
            }

            // The loss of a network that another has replaced is no news.
            override fun onLost(network: Network) {
                if (network == best?.network) say(null)
            }

            private fun say(path: NetworkPath?) {
                best = path
                answered.set(true)
                trySend(path)
            }
        }
        val isRegistered = try {
            register(callback)
            true
        } catch (e: SecurityException) { // some releases of Android 11 refuse what the manifest permits
            Log.e(TAG, "the system does not tell of networks", e)
            send(null)
            false
        }
        launch {
            delay(SILENCE_MS)
            if (!answered.get()) send(null)
        }
        awaitClose { if (isRegistered) manager.unregisterNetworkCallback(callback) }
    }.conflate().distinctUntilChanged()

    private fun register(callback: ConnectivityManager.NetworkCallback) {
        val request = NetworkRequest.Builder()
            .addCapability(NetworkCapabilities.NET_CAPABILITY_INTERNET)
            .addCapability(NetworkCapabilities.NET_CAPABILITY_NOT_VPN)
            .build()
        // Before Android 12 a request is the only way to be told of the best network that is no VPN. It is satisfied by
        // the network that is there, and turns nothing on.
        when {
            Build.VERSION.SDK_INT >= Build.VERSION_CODES.S ->
                manager.registerBestMatchingNetworkCallback(request, callback, Handler(Looper.getMainLooper()))
            Build.VERSION.SDK_INT >= Build.VERSION_CODES.O ->
                manager.requestNetwork(request, callback, Handler(Looper.getMainLooper()))
            else -> manager.requestNetwork(request, callback)
        }
    }
}

/** A way to the server. It is another one when the phone has lost an address on the same network. */
internal data class NetworkPath(val network: Network, val generation: Int = 0) {
    /** What the core tells one from another by. */
    val name: String get() = "${network.networkHandle}/$generation"
}

private fun LinkProperties?.addresses(): Set<InetAddress> =
    this?.linkAddresses.orEmpty().mapTo(mutableSetOf()) { it.address }

/** Android calls back within a few milliseconds when there is a network. A guess, with room for a busy phone. */
private const val SILENCE_MS = 500L
