package io.anytls.mobile.testing

import android.app.Notification
import android.content.Intent
import android.net.Network
import com.android.internal.net.VpnConfig
import org.robolectric.shadows.ShadowVpnService
import java.net.InetAddress
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.CopyOnWriteArrayList

/** The system's side of a VPN: what it answers, and what it was asked for. The shadows speak for it. */
object FakeVpn {
    /** What `establish()` gives away; null as when the user's consent is gone. */
    @Volatile
    var tun: TestTun? = null

    /** What happens while `establish()` is under way. */
    @Volatile
    var establishes: () -> Unit = {}

    /** What `establish()` throws, if anything. */
    @Volatile
    var establishError: RuntimeException? = null

    /** What `startForeground` throws, if anything. */
    @Volatile
    var foregroundError: RuntimeException? = null

    /** The notifications that services went into the foreground with, and their types. 0 is none. */
    val foreground = CopyOnWriteArrayList<Pair<Notification, Int>>()

    /** What `protect` answers. */
    @Volatile
    var protects: (Int) -> Boolean = { true }

    /** The best network below; changed by [ShadowNetworks.change] while somebody listens. */
    @Volatile
    var network: Network? = null

    /** What asking for networks throws, if anything. */
    @Volatile
    var networkError: RuntimeException? = null

    /** What names are below the VPN; nobody else has one. */
    val names = ConcurrentHashMap<String, List<InetAddress>>()

    /** The interfaces asked for, oldest first, as Android's own builder wrote them down. */
    val established = CopyOnWriteArrayList<VpnConfig>()

    /** The sockets that were to be protected. */
    val protected = CopyOnWriteArrayList<Int>()

    /** The last word on the networks below; null when there was none. */
    @Volatile
    var underlying: List<Network>? = null

    /** Whether the user has agreed. */
    fun prepared(isPrepared: Boolean) {
        ShadowVpnService.setPrepareResult(if (isPrepared) null else Intent("android.net.vpn.CONFIRM"))
    }

    fun reset() {
        tun = null
        establishes = {}
        establishError = null
        foregroundError = null
        foreground.clear()
        protects = { true }
        network = null
        networkError = null
        names.clear()
        established.clear()
        protected.clear()
        underlying = null
        prepared(true)
    }
}
