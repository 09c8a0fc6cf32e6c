package io.anytls.mobile.sample

import android.Manifest
import android.app.Activity
import android.content.Intent
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.android.AppFilter
import io.anytls.mobile.android.VpnState
import io.anytls.mobile.sample.logic.Texts
import io.anytls.mobile.testing.FakeVpn
import io.anytls.mobile.testing.TestServer
import io.anytls.mobile.testing.await
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowLooper
import java.net.ServerSocket
import java.util.concurrent.TimeUnit

class MainActivityTest : SampleTest() {
    @Test
    fun without_a_config_the_switch_leads_to_where_one_is_added() {
        val screen = open(MainActivity::class.java).get()
        await("the screen") { Texts.NO_SERVER in screen.texts() && Texts.ADD_A_CONFIG in screen.texts() }

        screen.tap(Texts.VPN)

        var opened: String? = null
        await("another screen") {
            opened = screen.opened()
            opened != null
        }
        assertEquals("ConfigActivity", opened)
        assertFalse(screen.switch.isChecked)
        assertNull("nothing was started", shadowOf(app).nextStartedService)
    }

    @Test
    fun the_screen_names_server_and_apps_and_no_password() {
        save(apps = AppFilter.Only(setOf("a", "b")))
        val screen = open(MainActivity::class.java).get()

        await("the server's name") { "Home (example.com:8443)" in screen.texts() }
        assertTrue("Only 2 apps use the VPN" in screen.texts())
        assertFalse(screen.texts().any { SECRET in it })
    }

    @Test
    fun consent_comes_before_the_start() {
        save()
        FakeVpn.prepared(false)
        val screen = open(MainActivity::class.java).get()
        await("the config") { "Home (example.com:8443)" in screen.texts() }

        screen.tap(Texts.VPN)
        val asked = awaitQuestion(screen)
        assertNull("not started yet", shadowOf(app).nextStartedService)

        FakeVpn.prepared(true)
        shadowOf(screen).receiveResult(asked, Activity.RESULT_OK, null)
        assertEquals(VpnState.Starting, AnyTlsVpn.state.value)
    }

    @Test
    fun a_refused_consent_leaves_the_switch_off_and_says_why_until_the_next_start() {
        save()
        FakeVpn.prepared(false)
        val screen = open(MainActivity::class.java).get()
        await("the config") { "Home (example.com:8443)" in screen.texts() }

        screen.tap(Texts.VPN)
        shadowOf(screen).receiveResult(awaitQuestion(screen), Activity.RESULT_CANCELED, null)

        assertFalse(screen.switch.isChecked)
        assertTrue(Texts.NOT_ALLOWED in screen.texts())
        assertNull(shadowOf(app).nextStartedService)

        ShadowLooper.idleMainLooper(3, TimeUnit.SECONDS)
        assertTrue("the screen was refreshed", Texts.NOT_ALLOWED in screen.texts())

        FakeVpn.prepared(true)
        screen.tap(Texts.VPN)
        await("the start") { screen.headline.text == Texts.STARTING }
        assertFalse(Texts.NOT_ALLOWED in screen.texts())
    }

    @Test
    fun the_notification_is_asked_for_at_the_first_start() {
        save()
        val screen = open(MainActivity::class.java).get()
        await("the config") { "Home (example.com:8443)" in screen.texts() }

        screen.tap(Texts.VPN)
        await("the question") { shadowOf(screen).lastRequestedPermission != null }

        val asked = shadowOf(screen).lastRequestedPermission
        assertEquals(listOf(Manifest.permission.POST_NOTIFICATIONS), asked.requestedPermissions.toList())
    }

    /** The real core, a real server, packets' worth of nothing. */
    @Test
    fun the_switch_turns_the_vpn_on_and_off() {
        TestServer().use { server ->
            save(server.uri)
            val tun = nextTun()
            val screen = open(MainActivity::class.java).get()
            await("the config") { screen.server.text.startsWith("127.0.0.1") }

            screen.tap(Texts.VPN)
            deliverStart()
            await("connected") { screen.headline.text == Texts.CONNECTED }
            assertTrue(screen.switch.isChecked)
            await("counts") { "session" in screen.counts.text }
            assertTrue(screen.totals.text.startsWith("Sent "))

            screen.tap(Texts.VPN)
            await("off") { screen.headline.text == Texts.OFF }
            assertFalse(screen.switch.isChecked)
            val counted = listOf(screen.speed, screen.totals, screen.counts).map { it.text.toString() }
            assertEquals("counts of a VPN that is off", listOf("", "", ""), counted)
            tun.awaitClosed()
        }
    }

    @Test
    fun the_server_can_be_measured_while_the_vpn_is_on() {
        TestServer().use { server ->
            save(server.uri)
            nextTun()
            val screen = open(MainActivity::class.java).get()
            assertFalse(screen.test.isEnabled)
            AnyTlsVpn.start(app)
            deliverStart()
            awaitConnected()
            await("the button") { screen.test.isEnabled }

            ServerSocket(0).use { web ->
                screen.destination = "127.0.0.1:${web.localPort}"
                screen.tap(Texts.TEST)
                await("a result") { screen.latency.text.startsWith("TCP ") }
            }
        }
    }

    @Test
    fun a_server_that_is_not_there_is_told_in_words() {
        val port = ServerSocket(0).use { it.localPort }
        save("anytls://$SECRET@127.0.0.1:$port")
        nextTun()
        val screen = open(MainActivity::class.java).get()
        await("the config") { "127.0.0.1:$port" in screen.texts() }

        screen.tap(Texts.VPN)
        deliverStart()

        await("a reason") { "The server refuses connections. (dial.refused)" in screen.detail.text }
        assertTrue(screen.switch.isChecked)
    }

    /** Android's own, whether this app may be a VPN. */
    private fun awaitQuestion(screen: MainActivity): Intent {
        var asked: Intent? = null
        await("the question") {
            asked = shadowOf(screen).nextStartedActivityForResult?.intent
            asked != null
        }
        return asked!!
    }
}
