package io.anytls.mobile.android

import android.content.pm.PackageManager
import android.net.VpnService
import android.os.Build
import android.os.ParcelFileDescriptor
import io.anytls.mobile.ConfigSummary
import io.anytls.mobile.TunSettings
import java.net.InetAddress

/** The interface that Android opens for a config. */
internal class VpnInterface(
    val descriptor: ParcelFileDescriptor,
    /** Apps of the options that are not installed. */
    val skippedApps: Set<String>,
) {
    /** Android did not open it; the message says why. */
    class Refused(message: String, cause: Exception? = null) : Exception(message, cause)

    companion object {
        /**
         * Opens it. An interface that this app has already is replaced without a gap.
         *
         * @throws Refused always when there is none
         */
        fun open(service: AnyTlsVpnService, config: ConfigSummary, options: VpnOptions): VpnInterface {
            val builder = service.Builder()
            val label = service.applicationInfo.loadLabel(service.packageManager)
            builder.setSession(options.session ?: config.name ?: label.toString())
            try {
                builder.route(config.tun)
                val skipped = builder.filter(options, service.packageName)
                if (options.isBypassAllowed) builder.allowBypass()
                if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) builder.setMetered(options.isMetered)
                service.configure(builder)
                // Null: the user's consent went away since prepare() was asked.
                val descriptor = builder.establish() ?: throw Refused("the app is not prepared")
                return VpnInterface(descriptor, skipped)
            } catch (e: IllegalArgumentException) {
                throw Refused("the system refuses a setting: ${e.message}", e)
            } catch (e: IllegalStateException) {
                throw Refused("the system could not open it: ${e.message}", e)
            } catch (e: SecurityException) {
                throw Refused("the system does not allow it: ${e.message}", e)
            }
        }
    }
}

/**
 * A family has an address, the default route and a DNS server, or nothing of these: Android then blocks it, and no name
 * and no packet goes around the VPN.
 */
private fun VpnService.Builder.route(tun: TunSettings) {
    setMtu(tun.mtu.toInt())
    val addresses = tun.addresses.map { literal(it.address) to it.prefixLength.toInt() }
    val servers = tun.dnsServers.map(::literal)
    val families = DEFAULT_ROUTES.filter { route ->
        addresses.any { (address, _) -> address.isOf(route) } && servers.any { it.isOf(route) }
    }
    if (families.isEmpty()) throw VpnInterface.Refused("no family has both an address and a DNS server")
    for (route in families) {
        for ((address, prefix) in addresses) {
            if (address.isOf(route)) addAddress(address, prefix)
        }
        addRoute(route, 0)
        servers.filter { it.isOf(route) }.forEach(::addDnsServer)
    }
}

/** Returns the apps that are not installed. */
private fun VpnService.Builder.filter(options: VpnOptions, own: String): Set<String> {
    val excluded = if (options.excludeOwnTraffic) setOf(own) else emptySet()
    return when (val apps = options.apps) {
        AppFilter.All -> missing(excluded, ::addDisallowedApplication)
        is AppFilter.Except -> missing(apps.packages + excluded, ::addDisallowedApplication)
        is AppFilter.Only -> {
            val allowed = apps.packages - excluded
            val missing = missing(allowed, ::addAllowedApplication)
            // An empty list would mean everybody.
            if (missing.size == allowed.size) throw VpnInterface.Refused("none of the apps to carry is installed")
            missing
        }
    }
}

private fun missing(packages: Set<String>, add: (String) -> Unit): Set<String> = packages.filterTo(mutableSetOf()) {
    try {
        add(it)
        false
    } catch (_: PackageManager.NameNotFoundException) {
        true
    }
}

/** The core writes addresses as numbers, which are not looked up. */
private fun literal(address: String): InetAddress = InetAddress.getByName(address)

private fun InetAddress.isOf(other: InetAddress): Boolean = javaClass == other.javaClass

private val DEFAULT_ROUTES: List<InetAddress> = listOf(literal("0.0.0.0"), literal("::"))
