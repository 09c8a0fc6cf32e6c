package io.anytls.mobile

import org.junit.jupiter.api.Assertions.assertFalse
import java.security.MessageDigest
import java.util.Base64

internal const val PASSWORD = "correct-horse-4711"

/** A config; what is given in JSON is put into the object of that name. */
@Suppress("LongParameterList") // a test names the one or two that it is about
internal fun config(
    port: Int,
    host: String = "127.0.0.1",
    password: String = PASSWORD,
    server: String = "",
    tls: String = """"insecure": true""",
    tun: String = "",
    dns: String = "",
    log: String = "",
): String {
    val more = if (server.isEmpty()) "" else ", $server"
    return """
        {
          "log": { $log },
          "server": { "server": "$host", "server_port": $port, "password": "$password", "tls": { $tls }$more },
          "tun": { $tun },
          "dns": { $dns }
        }
    """
}

/** Neither the password nor what is sent of it. */
internal fun assertNoSecret(text: String) {
    val hash = MessageDigest.getInstance("SHA-256").digest(PASSWORD.toByteArray())
    val hex = hash.joinToString("") { "%02x".format(it) }
    for (secret in listOf(PASSWORD, hex, Base64.getEncoder().encodeToString(hash))) {
        assertFalse(text.contains(secret, ignoreCase = true)) { "a secret stands in: $text" }
    }
}
