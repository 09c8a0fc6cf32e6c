package io.anytls.mobile.sample.logic

/**
 * Everything that the app says itself, in English. Here, and not among the resources, so that all of it can be compiled
 * and tested without the Android tools; an app with translations moves it there.
 */
object Texts {
    const val APP_NAME = "AnyTLS"

    // States
    const val OFF = "Off"
    const val STARTING = "Starting"
    const val STOPPING = "Stopping"
    const val CONNECTING = "Connecting"
    const val CONNECTED = "Connected"
    const val DEGRADED = "Connected, with trouble"
    const val RECONNECTING = "Reconnecting"
    const val NO_NETWORK = "No network"
    const val PAUSED = "Paused"
    const val FAILED = "Not working"
    const val ADD_A_CONFIG = "There is no configuration yet."
    const val NOT_PREPARED = "Android has to be asked whether this app may be a VPN: turn the switch on."
    const val REVOKED = "The VPN was turned off in the system's settings, or another VPN took its place."
    const val GOES_ON_WITH_ONE = "It goes on as soon as there is one."
    const val PHONE_SLEEPS = "The phone sleeps."
    const val TRAFFIC_BLOCKED = "Apps are cut off from the network until the switch is turned off."

    fun retry(attempt: UInt, seconds: Long): String {
        val failed = if (attempt == 1u) "1 try has failed" else "$attempt tries have failed"
        return if (seconds == 0L) "$failed, the next one is due." else "$failed, the next one is in $seconds s."
    }

    fun skipped(count: Int): String =
        if (count == 1) "1 of the chosen apps is not installed." else "$count of the chosen apps are not installed."

    // Main screen
    const val VPN = "VPN"
    const val CONFIG = "Configuration"
    const val APPS = "Apps"
    const val TRAFFIC = "Sessions and connections"
    const val LOG = "Log"
    const val TEST = "Test the server"
    const val TESTING = "Testing"
    const val NO_SERVER = "No configuration"
    const val NOT_ALLOWED = "Without Android's permission there is no VPN."
    const val ALL_APPS = "All apps use the VPN"

    fun onlyApps(count: Int): String = if (count == 1) "Only 1 app uses the VPN" else "Only $count apps use the VPN"

    fun exceptApps(count: Int): String =
        if (count == 1) "All apps but 1 use the VPN" else "All apps but $count use the VPN"

    fun totals(up: String, down: String): String = "Sent $up, received $down"

    fun counts(sessions: ULong, connections: ULong): String =
        "${count(sessions, "session")}, ${count(connections, "connection")}"

    fun latency(tcp: String, tls: String, first: String, next: String): String =
        "TCP $tcp, TLS $tls. The first connection takes $first, another one $next."

    fun graph(speed: String): String = "Speed over the last minute: $speed"

    // Configuration
    const val PASTE = "Paste"
    const val OPEN = "Open a file"
    const val USE = "Use it"
    const val REPLACE = "Replace the present one"
    const val REMOVE = "Remove"
    const val REMOVE_CONFIG = "Remove the configuration and turn the VPN off?"
    const val PRESENT = "In use"
    const val OFFERED = "New"
    const val HOW_TO_ADD = "Paste or open an anytls:// link, a JSON config, or a config of sing-box. " +
        "You can also follow such a link, or share the text with this app."
    const val NOTHING_TO_PASTE = "There is no text to paste."
    const val EMPTY_INPUT = "There is nothing in it."
    const val UNREADABLE = "The file cannot be read."
    const val NOT_SAVED = "The configuration could not be saved."
    const val CANNOT_BE_USED = "It cannot be used:"
    const val ERROR = "Error"
    const val WARNING = "Warning"

    fun name(name: String): String = "Name: $name"

    fun server(address: String): String = "Server: $address"

    fun severalLinks(count: Int): String = "one link is expected, and there are $count"

    // Apps
    const val EVERY_APP = "All apps"
    const val ONLY_THESE = "Only these"
    const val ALL_BUT_THESE = "All but these"
    const val SEARCH = "Search"
    const val APPLY = "Apply"
    const val CHOOSE_AN_APP = "Choose at least one app."

    fun notInstalled(packageName: String): String = "$packageName (not installed)"

    // Sessions and connections
    const val CLOSE = "Close"
    const val CANCEL = "Cancel"
    const val CLOSE_CONNECTION = "Close this connection?"
    const val NOTHING_OPEN = "Nothing is open."
    const val SESSIONS = "Sessions with the server"
    const val CONNECTIONS = "Connections of apps"
    const val SOCKET = "Socket"
    const val ASSOCIATION = "UDP association"
    const val OPENING = "opening"

    fun session(seq: ULong, use: String): String = "Session $seq, $use"

    fun streams(count: UInt): String = count(count.toULong(), "stream")

    fun idleFor(span: String): String = "idle for $span"

    fun roundTrip(time: String): String = "round trip $time"

    fun age(span: String): String = "$span old"

    // Log
    const val COPY = "Copy"
    const val SHARE = "Share"
    const val CLEAR = "Clear"
    const val COPIED = "Copied"
    const val LEVEL = "Level"

    fun dropped(count: ULong): String = "${count(count, "line")} dropped: the log was faster than the app"

    private fun count(number: ULong, noun: String): String = if (number == 1uL) "1 $noun" else "$number ${noun}s"
}
