package io.anytls.mobile

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.time.Duration

/** Configs and URIs, as an app shows and edits them. */
class ConfigTest {
    @Test
    fun `a config is summed up for the app, without its secrets`() {
        val text = config(
            port = 8443,
            host = "vpn.example",
            server = """"tag": "home", "what": 1""",
            tun = """"mtu": 1400, "addresses": ["10.1.0.1/30", "fd00::1/126"]""",
            log = """"level": "debug"""",
        )
        val summary = parseConfig(text)
        assertEquals("home", summary.name)
        assertEquals("vpn.example" to 8443.toUShort(), summary.serverHost to summary.serverPort)
        assertTrue(summary.isInsecure)
        assertEquals(LogLevel.DEBUG, summary.logLevel)
        assertEquals(1400.toUShort(), summary.tun.mtu)
        val addresses = summary.tun.addresses.map { "${it.address}/${it.prefixLength}" }
        assertEquals(listOf("10.1.0.1/30", "fd00::1/126"), addresses)
        assertEquals(listOf("10.1.0.2", "fd00::2"), summary.tun.dnsServers)
        val warned = summary.warnings.map { it.severity to it.path }
        assertTrue(warned.contains(Severity.WARNING to "server.what")) { "$warned" }
        assertNoSecret("$summary")
    }

    @Test
    fun `a config says nothing of what it leaves to the app`() {
        val summary = parseConfig("""{ "server": { "server": "2001:db8::1", "password": "$PASSWORD" } }""")
        assertEquals(null to null, summary.name to summary.logLevel)
        assertEquals("2001:db8::1" to 443.toUShort(), summary.serverHost to summary.serverPort)
        assertEquals(9000.toUShort() to 2, summary.tun.mtu to summary.tun.addresses.size)
        assertFalse(summary.isInsecure)
        assertEquals(emptyList<ConfigProblem>(), summary.warnings)
    }

    @Test
    fun `all problems of a config are told at once, with their places and without its secrets`() {
        val text = config(port = 70_000, server = """"heartbeat": "$PASSWORD"""", tun = """"mtu": 1, "mto": 2""")
        val error = assertFails<TunnelException.Config>("config", isRetryable = false) { parseConfig(text) }
        val errors = error.problems.filter { it.severity == Severity.ERROR }
        assertEquals(setOf("server.server_port", "server.heartbeat", "tun.mtu"), errors.map { it.path }.toSet())
        assertTrue(error.problems.drop(errors.size).any { it.path == "tun.mto" }) { "${error.problems}" }
        assertTrue(error.problems.all { it.reason.isNotBlank() }) { "${error.problems}" }
    }

    @Test
    fun `a URI is taken apart and put together again`() {
        val parts = ServerUri(
            password = "p:ä @/?#%",
            host = "2001:db8::1",
            port = 8443u,
            sni = "vpn.example",
            isInsecure = true,
            name = "at home",
        )
        val text = buildUri(parts)
        assertTrue(text.startsWith("anytls://")) { text }
        assertEquals(parts, parseUri(text))
        assertEquals(parts.host, parseConfig(text).serverHost)
    }

    @Test
    fun `a URI's parts have defaults`() {
        val parts = ServerUri(password = PASSWORD, host = "vpn.example")
        assertEquals(parts, parseUri("anytls://$PASSWORD@vpn.example"))
        assertEquals(443.toUShort() to false, parts.port to parts.isInsecure)
        assertEquals(null to null, parts.sni to parts.name)
    }

    @Test
    fun `a URI's parts are printed without the password`() {
        val printed = "${ServerUri(password = PASSWORD, host = "vpn.example")}"
        assertNoSecret(printed)
        assertTrue(printed.contains("vpn.example")) { printed }
    }

    @Test
    fun `a URI that is none is refused with its problems`() {
        for (text in listOf("", "https://vpn.example", "anytls://vpn.example", "anytls://$PASSWORD@:x")) {
            val error = assertFails<TunnelException.Config>("config", isRetryable = false) { parseUri(text) }
            assertTrue(error.problems.isNotEmpty()) { text }
        }
    }

    @Test
    fun `parts that make no URI are refused by their names`() {
        val good = ServerUri(password = PASSWORD, host = "vpn.example")
        val bad = mapOf(
            good.copy(password = "") to "uri.password",
            good.copy(host = "two words") to "uri.host",
            good.copy(port = 0u) to "uri.port",
            good.copy(sni = "two words") to "uri.sni",
        )
        for ((parts, path) in bad) {
            val error = assertFails<TunnelException.Config>("config", isRetryable = false) { buildUri(parts) }
            assertEquals(path, error.problems.single().path)
        }
    }

    @Test
    fun `the presets are listed, the default one first`() {
        val presets = presets()
        val (default) = presets
        assertEquals("mobile", default.name)
        assertEquals(2u to 1u, default.ensureIdleSession to default.minIdleSession)
        assertEquals(Duration.ofMinutes(5), default.idleSessionTimeout)
        assertEquals(Duration.ofSeconds(30), default.idleSessionCheckInterval)
        assertEquals(Duration.ofSeconds(30), default.heartbeat)
        assertEquals(Duration.ofSeconds(270), default.heartbeatBackground)
        assertEquals(6, presets.map { it.name }.toSet().size)
        for (preset in presets) parseConfig(config(443, server = """"preset": "${preset.name}""""))
    }

    @Test
    fun `the version is three numbers`() {
        assertTrue(version().matches(Regex("""\d+\.\d+\.\d+"""))) { version() }
    }
}
