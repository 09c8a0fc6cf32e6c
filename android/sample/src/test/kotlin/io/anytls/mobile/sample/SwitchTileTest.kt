package io.anytls.mobile.sample

import android.app.PendingIntent
import android.os.Build
import android.service.quicksettings.Tile
import android.service.quicksettings.TileService
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.android.VpnState
import io.anytls.mobile.sample.logic.Texts
import io.anytls.mobile.testing.FakeVpn
import io.anytls.mobile.testing.TestServer
import io.anytls.mobile.testing.await
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.shadows.ShadowTileService

@Config(shadows = [ShadowTile::class])
class SwitchTileTest : SampleTest() {
    private val tile: SwitchTile by lazy { Robolectric.buildService(SwitchTile::class.java).create().get() }

    @After
    fun endTile() {
        tile.onDestroy()
    }

    @Test
    fun the_tile_turns_the_vpn_on_and_off() {
        TestServer().use { server ->
            save(server.uri)
            nextTun()
            tile.onStartListening()
            await("off") { tile.qsTile.state == Tile.STATE_INACTIVE }

            tile.onClick()
            deliverStart()
            await("connected") { tile.qsTile.subtitle == Texts.CONNECTED }
            assertEquals(Tile.STATE_ACTIVE, tile.qsTile.state)

            shadowOf(tile).setLocked(true)
            tile.onClick()
            assertFalse("unlocked before anything else", tile.isLocked)
            await("off again") { tile.qsTile.state == Tile.STATE_INACTIVE }
            assertEquals(VpnState.Stopped, AnyTlsVpn.state.value)
        }
    }

    @Test
    fun a_tile_that_is_ended_at_once_has_turned_the_vpn_on() {
        save()

        tile.onClick()
        tile.onDestroy()

        await("the start") { shadowOf(app).nextStartedService != null }
    }

    @Test
    fun without_consent_it_opens_the_app() {
        save()
        FakeVpn.prepared(false)

        tile.onClick()

        awaitApp()
        assertNull(shadowOf(app).nextStartedService)
    }

    @Test
    fun without_a_config_it_opens_the_app() {
        tile.onClick()

        awaitApp()
        assertNull(shadowOf(app).nextStartedService)
    }

    private fun awaitApp() {
        var opened: String? = null
        await("the app") {
            opened = shadowOf(app).nextStartedActivity?.component?.className
            opened != null
        }
        assertEquals(MainActivity::class.java.name, opened)
    }
}

/** Robolectric's opens activities by their intents alone, and cannot be destroyed. */
@Implements(TileService::class)
class ShadowTile : ShadowTileService() {
    @Implementation(minSdk = Build.VERSION_CODES.UPSIDE_DOWN_CAKE)
    fun startActivityAndCollapse(activity: PendingIntent) {
        activity.send()
    }

    @Implementation
    fun onDestroy() = Unit
}
