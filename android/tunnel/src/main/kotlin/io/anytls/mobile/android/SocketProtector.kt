package io.anytls.mobile.android

import android.net.Network
import android.net.VpnService
import android.util.Log
import io.anytls.mobile.CallbackException
import io.anytls.mobile.Platform
import java.io.IOException

/** Keeps the core's way to the server, and the lookup of its name, outside the VPN. Called on the core's threads. */
internal class SocketProtector(private val service: VpnService) : Platform {
    /** The network below the VPN; null while there is none. */
    @Volatile
    var network: Network? = null

    /** False fails the dial: better no connection than one that runs into the VPN itself. */
    override fun protect(socket: Int): Boolean = try {
        service.protect(socket)
    } catch (e: RuntimeException) { // the system's side of the call has died
        Log.w(TAG, "a socket could not be protected", e)
        false
    }

    /** Without a network nobody is asked: the system's own resolver would go by the VPN. */
    override fun resolve(host: String): List<String>? {
        val network = network ?: throw CallbackException.Failed("no network")
        try {
            return network.getAllByName(host).map { it.hostAddress!!.substringBefore('%') }
        } catch (e: IOException) {
            throw CallbackException.Failed(e.message ?: "no address").apply { initCause(e) }
        }
    }
}

internal const val TAG = "AnyTlsVpn"
