package io.anytls.mobile.android

import io.anytls.mobile.ConfigProblem
import io.anytls.mobile.Failure
import io.anytls.mobile.TunnelState

/**
 * Whether this app's VPN is there, and how it is doing.
 *
 * ```text
 * Stopped ─► Starting ─► Up ─► Stopping ─► Stopped
 *    Failed ◄──┴─────────┘
 * ```
 */
public sealed interface VpnState {
    /** No VPN: nobody has asked for it, or it was turned off. */
    public data object Stopped : VpnState

    /** Asked for; the interface is not there yet. */
    public data object Starting : VpnState

    /** The interface is there and traffic goes into it; [tunnel] says how far it comes. */
    public data class Up(
        val tunnel: TunnelState,
        /** Apps named in the options that are not installed. */
        val skippedApps: Set<String> = emptySet(),
    ) : VpnState

    /** Being turned off: a second at most. */
    public data object Stopping : VpnState

    /** No VPN, for a reason that is not a call to stop. */
    public data class Failed(val cause: VpnFailure) : VpnState
}

/** Why there is no VPN. */
public sealed interface VpnFailure {
    /** For the user, in English. */
    public val message: String

    /** The user has not agreed, or has chosen another VPN since: show what [AnyTlsVpn.prepare] returns. */
    public data object NotPrepared : VpnFailure {
        override val message: String get() = "This app may not open a VPN yet."
    }

    /** Started without a config, and none was saved. */
    public data object NoConfig : VpnFailure {
        override val message: String get() = "There is no configuration."
    }

    /** The config cannot be used. All that is wrong with it, with JSON paths. */
    public data class BadConfig(val problems: List<ConfigProblem>) : VpnFailure {
        override val message: String get() = "The configuration has errors."
    }

    /** The system did not let the service start, most often because the app is in the background. */
    public data class ServiceRefused(val reason: String) : VpnFailure {
        override val message: String get() = "Android did not let the VPN start."
    }

    /** The system did not open the interface. */
    public data class NotEstablished(val reason: String) : VpnFailure {
        override val message: String get() = "Android did not open the VPN's interface."
    }

    /** The user turned it off in the system's settings, or turned on another VPN. */
    public data object Revoked : VpnFailure {
        override val message: String get() = "The VPN was turned off by the system."
    }

    /** The core has given up. */
    public data class Core(val failure: Failure) : VpnFailure {
        override val message: String get() = failure.userMessage
    }
}
