package io.anytls.mobile.sample

import android.app.Activity
import android.content.ClipData
import android.content.ClipboardManager
import android.content.DialogInterface
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.MotionEvent
import android.view.MotionEvent.FLAG_WINDOW_IS_OBSCURED
import android.view.MotionEvent.FLAG_WINDOW_IS_PARTIALLY_OBSCURED
import android.view.View
import android.view.WindowManager.LayoutParams
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.android.AppFilter
import io.anytls.mobile.sample.logic.Texts
import io.anytls.mobile.testing.TestServer
import io.anytls.mobile.testing.await
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowAlertDialog
import java.io.File

class ConfigActivityTest : SampleTest() {
    private val link = Intent(Intent.ACTION_VIEW, Uri.parse("anytls://$OTHER_SECRET@other.example/?insecure=1#Other"))

    @Test
    fun a_link_is_only_an_offer_until_it_is_taken() {
        save(apps = AppFilter.Except(setOf("com.shop")))
        val screen = openWith(link)
        await("the offer") { "Server: other.example:443" in screen.offered.text }
        await("the present one") { screen.present.text == "Home (example.com:8443)" }

        assertTrue("the risk is named", "Warning: uri.insecure: " in screen.offered.text)
        assertFalse("no password is shown", screen.texts().any { SECRET in it || OTHER_SECRET in it })
        assertEquals(CONFIG, saved()?.text)

        screen.tap(Texts.REPLACE)
        await("the end of the screen") { screen.isFinishing }
        assertEquals(link.dataString, saved()?.text)
        assertEquals("the choice of apps stays", AppFilter.Except(setOf("com.shop")), saved()?.options?.apps)
        assertEquals("MainActivity", screen.opened())
    }

    @Test
    fun the_screen_left_alone_changes_nothing() {
        save()
        val screen = openWith(link)
        await("the offer") { screen.take.visibility == View.VISIBLE }

        screen.finish()

        assertEquals(CONFIG, saved()?.text)
    }

    @Test
    fun the_button_does_not_work_below_other_windows() {
        val screen = openWith(link)
        val flags = screen.window.attributes.privateFlags
        assertTrue("hidden", flags and LayoutParams.SYSTEM_FLAG_HIDE_NON_SYSTEM_OVERLAY_WINDOWS != 0)

        for (flag in listOf(FLAG_WINDOW_IS_OBSCURED, FLAG_WINDOW_IS_PARTIALLY_OBSCURED)) {
            assertFalse("$flag", screen.take.onFilterTouchEventForSecurity(touch(flag)))
        }
        assertTrue(screen.take.onFilterTouchEventForSecurity(touch(flags = 0)))
    }

    @Test
    fun shared_text_is_read() {
        val screen = openWith(share().putExtra(Intent.EXTRA_TEXT, "Try this: $CONFIG"))

        await("the offer") { "Server: example.com:8443" in screen.offered.text }
        assertEquals(Texts.USE, screen.take.text)
    }

    @Test
    fun all_problems_of_a_bad_config_are_listed() {
        val json = """{ "server": { "server_port": 0, "tls": { "alpn": [7] } } }"""
        val screen = openWith(share().putExtra(Intent.EXTRA_TEXT, json))

        await("the problems") { Texts.CANNOT_BE_USED in screen.offered.text }
        for (path in listOf("server.server", "server.password", "server.server_port", "server.tls.alpn[0]")) {
            assertTrue(path, "Error: $path: " in screen.offered.text)
        }
        assertEquals(View.GONE, screen.take.visibility)
    }

    @Test
    fun a_shared_file_is_read() {
        val document = Uri.parse("content://org.example.files/1")
        shadowOf(app.contentResolver).registerInputStream(document, CONFIG.byteInputStream())
        val screen = openWith(share().putExtra(Intent.EXTRA_STREAM, document))

        await("the offer") { "Server: example.com:8443" in screen.offered.text }
    }

    @Test
    fun a_path_into_the_apps_own_files_is_not_followed() {
        val own = File(app.noBackupFilesDir, "own").apply { writeText(CONFIG) }
        val screen = openWith(share().putExtra(Intent.EXTRA_STREAM, Uri.fromFile(own)))

        await("the refusal") { screen.offered.text.toString() == Texts.UNREADABLE }
        assertEquals(View.GONE, screen.take.visibility)
    }

    @Test
    fun another_app_that_fails_is_no_end_of_this_one() {
        val document = Uri.parse("content://org.example.files/2")
        shadowOf(app.contentResolver).registerInputStreamSupplier(document) { throw SecurityException("not yours") }
        val screen = openWith(share().putExtra(Intent.EXTRA_STREAM, document))

        await("the refusal") { screen.offered.text.toString() == Texts.UNREADABLE }
    }

    @Test
    fun what_cannot_be_unpacked_is_refused_and_takes_the_place_of_the_offer() {
        val controller = open(ConfigActivity::class.java, link)
        val screen = controller.get()
        await("the offer") { screen.take.visibility == View.VISIBLE }

        controller.newIntent(Unreadable())

        assertEquals(Texts.UNREADABLE, screen.offered.text.toString())
        assertEquals(View.GONE, screen.take.visibility)
    }

    @Test
    fun the_clipboard_is_pasted() {
        val clipboard = app.getSystemService(ClipboardManager::class.java)!!
        val screen = openWith(null)

        clipboard.clearPrimaryClip()
        screen.tap(Texts.PASTE)
        assertEquals(Texts.NOTHING_TO_PASTE, screen.offered.text.toString())

        clipboard.setPrimaryClip(ClipData.newPlainText("", CONFIG))
        screen.tap(Texts.PASTE)
        await("the offer") { "Server: example.com:8443" in screen.offered.text }
    }

    @Test
    fun a_file_is_opened() {
        val document = Uri.parse("content://org.example.files/3")
        shadowOf(app.contentResolver).registerInputStream(document, CONFIG.byteInputStream())
        val screen = openWith(null)

        screen.tap(Texts.OPEN)
        val asked = shadowOf(screen).nextStartedActivityForResult.intent
        assertEquals(Intent.ACTION_OPEN_DOCUMENT, asked.action)
        shadowOf(screen).receiveResult(asked, Activity.RESULT_OK, Intent().setData(document))

        await("the offer") { "Server: example.com:8443" in screen.offered.text }
    }

    @Test
    fun the_config_can_be_removed_after_a_question() {
        save()
        val screen = openWith(null)
        await("the present one") { screen.remove.visibility == View.VISIBLE }

        screen.tap(Texts.REMOVE)
        assertEquals("only asked so far", CONFIG, saved()?.text)
        ShadowAlertDialog.getLatestAlertDialog().getButton(DialogInterface.BUTTON_POSITIVE).performClick()

        await("none") { screen.present.text == Texts.NO_SERVER }
        assertNull(saved())
        assertEquals(View.GONE, screen.remove.visibility)
    }

    @Test
    fun a_turned_phone_keeps_the_offer_and_saves_no_password() {
        val controller = open(ConfigActivity::class.java)
        app.getSystemService(ClipboardManager::class.java)!!.setPrimaryClip(ClipData.newPlainText("", CONFIG))
        controller.get().tap(Texts.PASTE)
        await("the offer") { controller.get().take.visibility == View.VISIBLE }
        val state = Bundle()
        controller.saveInstanceState(state)

        controller.recreate()

        await("the offer again") { "Server: example.com:8443" in controller.get().offered.text }
        assertFalse(SECRET in state.toString())
    }

    @Test
    fun a_vpn_that_is_on_goes_by_the_new_config_at_once() {
        TestServer().use { first ->
            TestServer().use { second ->
                save(first.uri)
                nextTun()
                AnyTlsVpn.start(app)
                deliverStart()
                awaitConnected()

                val screen = openWith(share().putExtra(Intent.EXTRA_TEXT, second.uri))
                await("the offer") { screen.take.visibility == View.VISIBLE }
                await("the present one") { screen.take.text == Texts.REPLACE }
                screen.tap(Texts.REPLACE)
                deliverStart()

                await("the end of the screen") { screen.isFinishing }
                awaitConnected()
                assertEquals(second.uri, saved()?.text)
            }
        }
    }

    private fun openWith(intent: Intent?): ConfigActivity = open(ConfigActivity::class.java, intent).get()

    private fun touch(flags: Int): MotionEvent {
        val pointers = arrayOf(MotionEvent.PointerProperties())
        val places = arrayOf(MotionEvent.PointerCoords())
        return MotionEvent.obtain(0, 0, MotionEvent.ACTION_DOWN, 1, pointers, places, 0, 0, 1f, 1f, 0, 0, 0, flags)
    }

    /** What Android makes of an address of a kind that it does not know. */
    private class Unreadable : Intent(ACTION_SEND) {
        override fun <T> getParcelableExtra(name: String?, clazz: Class<T>): T? =
            throw IllegalArgumentException("Unknown URI type: 99")
    }

    private fun share() = Intent(Intent.ACTION_SEND).setType("text/plain")

    private companion object {
        const val OTHER_SECRET = "another-s3cret"
    }
}
