package io.anytls.mobile.android

/** What a VPN is started with. */
public data class VpnConfig(
    /** A JSON config or an `anytls://` URI: whatever `parseConfig` takes. Holds a password. */
    val text: String,
    val options: VpnOptions = VpnOptions(),
) {
    override fun toString(): String = "VpnConfig(.., $options)"
}

/** What Android is asked for. The interface's addresses, MTU and DNS servers come from the config. */
public data class VpnOptions(
    /** The name in the system's settings; null: the config's, else the app's. */
    val session: String? = null,
    val apps: AppFilter = AppFilter.All,
    /** Whether this app's own traffic stays outside. The core's connections to the server always do. */
    val excludeOwnTraffic: Boolean = false,
    /** Whether apps may choose a network beside the VPN. */
    val isBypassAllowed: Boolean = false,
    /** Whether apps should save data even when the network below does not ask for it. Android 10 and up. */
    val isMetered: Boolean = false,
)

/** Whose traffic goes into the VPN, by package name. Packages that are not installed are skipped. */
public sealed interface AppFilter {
    /** Everybody's. */
    public data object All : AppFilter

    /** That of these apps; the VPN does not start when none of them is installed. */
    public data class Only(val packages: Set<String>) : AppFilter

    /** Everybody's but that of these apps. */
    public data class Except(val packages: Set<String>) : AppFilter
}
