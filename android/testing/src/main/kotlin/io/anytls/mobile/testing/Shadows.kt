package io.anytls.mobile.testing

import android.app.Notification
import android.content.pm.ServiceInfo
import android.net.ConnectivityManager
import android.net.LinkAddress
import android.net.LinkProperties
import android.net.Network
import android.net.NetworkRequest
import android.net.RouteInfo
import android.net.VpnService
import android.os.Build
import android.os.Handler
import android.os.ParcelFileDescriptor
import com.android.internal.net.VpnConfig
import io.anytls.mobile.testing.LibC.Companion.libc
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.annotation.RealObject
import org.robolectric.shadow.api.Shadow
import org.robolectric.shadows.ShadowConnectivityManager
import org.robolectric.shadows.ShadowNetwork
import org.robolectric.shadows.ShadowParcelFileDescriptor
import org.robolectric.shadows.ShadowVpnService
import org.robolectric.util.ReflectionHelpers
import java.net.InetAddress
import java.net.UnknownHostException

// Where Android's own code would ask the system, it asks FakeVpn. Name them in @Config(shadows = ...).

@Implements(VpnService::class)
class ShadowVpn : ShadowVpnService() {
    @Implementation
    fun protect(socket: Int): Boolean {
        FakeVpn.protected += socket
        return FakeVpn.protects(socket)
    }

    @Implementation
    fun setUnderlyingNetworks(networks: Array<Network>?): Boolean {
        FakeVpn.underlying = networks?.toList()
        return true
    }

    /** From Android 14 on, the system looks at the type. */
    @Implementation
    public override fun startForeground(id: Int, notification: Notification, type: Int) {
        FakeVpn.foregroundError?.let { throw it }
        val isExempted = type == ServiceInfo.FOREGROUND_SERVICE_TYPE_SYSTEM_EXEMPTED
        if (isExempted && VpnService.prepare(RuntimeEnvironment.getApplication()) != null) {
            throw SecurityException("only for apps that may open a VPN")
        }
        super.startForeground(id, notification, type)
        FakeVpn.foreground += notification to type
    }

    @Implementation
    public override fun startForeground(id: Int, notification: Notification) {
        FakeVpn.foregroundError?.let { throw it }
        super.startForeground(id, notification)
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.UPSIDE_DOWN_CAKE) FakeVpn.foreground += notification to 0
    }
}

/** All but the last step is Android's own code. */
@Implements(VpnService.Builder::class)
class ShadowVpnBuilder {
    @RealObject
    private lateinit var builder: VpnService.Builder

    @Implementation
    fun establish(): ParcelFileDescriptor? {
        val config = ReflectionHelpers.getField<VpnConfig>(builder, "mConfig")
        config.addresses = ReflectionHelpers.getField<List<LinkAddress>>(builder, "mAddresses")
        config.routes = ReflectionHelpers.getField<List<RouteInfo>>(builder, "mRoutes")
        FakeVpn.established += config
        FakeVpn.establishes()
        FakeVpn.establishError?.let { throw it }
        return FakeVpn.tun?.let { ShadowTunDescriptor.of(it.vpnEnd) }
    }

    /** Whether an app is installed. */
    @Implementation
    fun verifyApp(name: String) {
        RuntimeEnvironment.getApplication().packageManager.getApplicationInfo(name, 0)
    }
}

/** Real descriptors for interfaces, Robolectric's files for everything else. */
@Implements(ParcelFileDescriptor::class)
class ShadowTunDescriptor : ShadowParcelFileDescriptor() {
    private var fd = NONE

    @Implementation
    fun detachFd(): Int {
        check(fd != NONE) { "no interface, or detached before" }
        return fd.also { fd = NONE }
    }

    @Implementation
    public override fun close() {
        if (fd != NONE) libc.close(fd)
        fd = NONE
    }

    companion object {
        private const val NONE = -1

        fun of(fd: Int): ParcelFileDescriptor {
            val descriptor = Shadow.newInstanceOf(ParcelFileDescriptor::class.java)
            Shadow.extract<ShadowTunDescriptor>(descriptor).fd = fd
            return descriptor
        }
    }
}

/** Tells who asks for the best network of it at once, as Android does. */
@Implements(ConnectivityManager::class)
class ShadowNetworks : ShadowConnectivityManager() {
    @Implementation
    public override fun registerBestMatchingNetworkCallback(
        request: NetworkRequest,
        callback: ConnectivityManager.NetworkCallback,
        handler: Handler,
    ) {
        FakeVpn.networkError?.let { throw it }
        super.registerBestMatchingNetworkCallback(request, callback, handler)
        FakeVpn.network?.let(callback::onAvailable)
    }

    /** A network goes that was not the best one any more. */
    fun lose(network: Network) {
        check(network != FakeVpn.network)
        for (callback in networkCallbacks) callback.onLost(network)
    }

    /** The phone has these addresses on the network now. */
    fun readdress(network: Network, vararg addresses: String) {
        val properties = LinkProperties().apply { addresses.forEach { addLinkAddress(LinkAddress(it)) } }
        setLinkProperties(network, properties)
        for (callback in networkCallbacks) callback.onLinkPropertiesChanged(network, properties)
    }

    /** Another network, or none. */
    fun change(network: Network?) {
        val before = FakeVpn.network
        FakeVpn.network = network
        for (callback in networkCallbacks) {
            if (network != null) callback.onAvailable(network) else before?.let(callback::onLost)
        }
    }
}

/** Looks names up in [FakeVpn.names]. */
@Implements(Network::class)
class ShadowNames : ShadowNetwork() {
    @Implementation
    fun getAllByName(host: String): Array<InetAddress> =
        FakeVpn.names[host]?.toTypedArray() ?: throw UnknownHostException(host)
}
