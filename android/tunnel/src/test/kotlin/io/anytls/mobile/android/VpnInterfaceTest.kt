package io.anytls.mobile.android

import android.content.pm.PackageInfo
import io.anytls.mobile.ConfigSummary
import io.anytls.mobile.InterfaceAddress
import io.anytls.mobile.TunSettings
import io.anytls.mobile.parseConfig
import io.anytls.mobile.testing.FakeVpn
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.Shadows.shadowOf
import java.net.InetAddress
import com.android.internal.net.VpnConfig as Established

/** What Android is asked for, as its own builder wrote it down. */
class VpnInterfaceTest : VpnTest() {
    private val defaults = parseConfig("anytls://secret@vpn.example/#My%20server")

    @Test
    fun the_defaults_open_both_families() {
        val vpn = open(defaults)
        assertEquals(9000, vpn.mtu)
        assertEquals(listOf("172.19.0.1/30", "fdfe:dcba:9876:0:0:0:0:1/126"), vpn.addresses.map { "$it" })
        assertEquals(listOf("0.0.0.0/0", "0:0:0:0:0:0:0:0/0"), vpn.routes.map { "${it.destination}" })
        assertEquals(defaults.tun.dnsServers.map(InetAddress::getByName), vpn.dnsServers.map(InetAddress::getByName))
        assertEquals(2, vpn.dnsServers.size)
        assertEquals("My server", vpn.session)
        assertFalse("the descriptor does not block", vpn.blocking)
        assertFalse(vpn.allowBypass)
        assertFalse(vpn.isMetered)
        assertNull(vpn.allowedApplications)
        assertNull(vpn.disallowedApplications)
    }

    @Test
    fun a_family_without_an_address_is_left_closed() {
        val vpn =
            open(
                parseConfig(
                    """{ "server": { "server": "vpn.example", "password": "secret" },
            "tun": { "mtu": 1500, "addresses": ["10.7.0.2/24"] } }""",
                ),
            )
        assertEquals(1500, vpn.mtu)
        assertEquals(listOf("10.7.0.2/24"), vpn.addresses.map { "$it" })
        assertEquals(listOf("0.0.0.0/0"), vpn.routes.map { "${it.destination}" })
        assertEquals(1, vpn.dnsServers.size)
        assertFalse("no packet of the other family leaves", vpn.allowIPv6)
    }

    @Test
    fun a_family_without_dns_is_left_closed() {
        val vpn = open(defaults.withTun(ADDRESSES, dns = listOf("fd00::53")))
        assertEquals(listOf("fd00:0:0:0:0:0:0:1/64"), vpn.addresses.map { "$it" })
        assertEquals(listOf("0:0:0:0:0:0:0:0/0"), vpn.routes.map { "${it.destination}" })
        assertEquals(listOf("fd00:0:0:0:0:0:0:53"), vpn.dnsServers)
    }

    @Test
    fun without_any_dns_there_is_no_vpn() {
        assertThrows(VpnInterface.Refused::class.java) { open(defaults.withTun(ADDRESSES, dns = emptyList())) }
        assertThrows(VpnInterface.Refused::class.java) {
            open(defaults.withTun(ADDRESSES.take(1), dns = listOf("fd00::53")))
        }
        assertTrue(FakeVpn.established.isEmpty())
    }

    @Test
    fun only_named_apps_are_carried() {
        install("a.browser", "a.messenger")
        val options = VpnOptions(apps = AppFilter.Only(setOf("a.browser", "a.game")))
        val vpn = open(defaults, options, skipped = setOf("a.game"))
        assertEquals(listOf("a.browser"), vpn.allowedApplications)
        assertNull(vpn.disallowedApplications)
    }

    @Test
    fun a_list_without_one_installed_app_does_not_become_everybody() {
        val only = AppFilter.Only(setOf("a.game"))
        assertThrows(VpnInterface.Refused::class.java) { open(defaults, VpnOptions(apps = only)) }
        val empty = AppFilter.Only(emptySet())
        assertThrows(VpnInterface.Refused::class.java) { open(defaults, VpnOptions(apps = empty)) }
        val own = VpnOptions(apps = AppFilter.Only(setOf(app.packageName)), excludeOwnTraffic = true)
        assertThrows(VpnInterface.Refused::class.java) { open(defaults, own) }
        assertTrue(FakeVpn.established.isEmpty())
    }

    @Test
    fun all_but_named_apps_are_carried() {
        install("a.bank")
        val options = VpnOptions(apps = AppFilter.Except(setOf("a.bank", "a.game")))
        val vpn = open(defaults, options, skipped = setOf("a.game"))
        assertEquals(listOf("a.bank"), vpn.disallowedApplications)
        assertNull(vpn.allowedApplications)
    }

    @Test
    fun the_apps_own_traffic_may_stay_outside() {
        install("a.bank", "a.browser")
        val all = open(defaults, VpnOptions(excludeOwnTraffic = true))
        assertEquals(listOf(app.packageName), all.disallowedApplications)
        val except = open(defaults, VpnOptions(apps = AppFilter.Except(setOf("a.bank")), excludeOwnTraffic = true))
        assertEquals(setOf("a.bank", app.packageName), except.disallowedApplications.toSet())
        val listed = AppFilter.Only(setOf("a.browser", app.packageName))
        val only = open(defaults, VpnOptions(apps = listed, excludeOwnTraffic = true))
        assertEquals(listOf("a.browser"), only.allowedApplications)
    }

    @Test
    fun options_are_passed_on() {
        val vpn = open(defaults, VpnOptions(session = "Work", isBypassAllowed = true, isMetered = true))
        assertEquals("Work", vpn.session)
        assertTrue(vpn.allowBypass)
        assertTrue(vpn.isMetered)
    }

    @Test
    fun a_subclass_has_the_last_word() {
        nextTun()
        val service = Robolectric.buildService(Customised::class.java).get()
        VpnInterface.open(service, defaults, service.adjust(VpnOptions()))
        val vpn = FakeVpn.established.single()
        assertEquals("changed", vpn.session)
        assertEquals(listOf("example.org"), vpn.searchDomains)
    }

    class Customised : AnyTlsVpnService() {
        override fun onOptions(options: VpnOptions): VpnOptions = options.copy(session = "changed")

        override fun onInterface(builder: Builder) {
            builder.addSearchDomain("example.org")
        }
    }

    private fun open(
        config: ConfigSummary,
        options: VpnOptions = VpnOptions(),
        skipped: Set<String> = emptySet(),
    ): Established {
        nextTun()
        val vpn = VpnInterface.open(Robolectric.buildService(AnyTlsVpnService::class.java).get(), config, options)
        vpn.descriptor.close()
        assertEquals(skipped, vpn.skippedApps)
        return FakeVpn.established.last()
    }

    private fun install(vararg names: String) {
        for (name in names) {
            shadowOf(app.packageManager).installPackage(PackageInfo().apply { packageName = name })
        }
    }

    private fun ConfigSummary.withTun(addresses: List<InterfaceAddress>, dns: List<String>): ConfigSummary =
        copy(tun = TunSettings(tun.mtu, addresses, dns))

    private companion object {
        val ADDRESSES = listOf(InterfaceAddress("10.0.0.1", 24u), InterfaceAddress("fd00::1", 64u))
    }
}
