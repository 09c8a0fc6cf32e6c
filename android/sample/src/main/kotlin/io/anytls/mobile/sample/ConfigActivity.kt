package io.anytls.mobile.sample

import android.app.AlertDialog
import android.content.ActivityNotFoundException
import android.content.ClipboardManager
import android.content.ContentResolver
import android.content.Context
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.view.MotionEvent
import android.view.View
import android.widget.Button
import android.widget.ScrollView
import android.widget.TextView
import io.anytls.mobile.android.AnyTlsVpn
import io.anytls.mobile.android.VpnConfig
import io.anytls.mobile.android.VpnOptions
import io.anytls.mobile.sample.logic.ConfigInput
import io.anytls.mobile.sample.logic.Texts
import io.anytls.mobile.sample.logic.describe
import io.anytls.mobile.sample.logic.problemLines
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import java.io.IOException

/**
 * Where a config comes from: the clipboard, a file, a link, another app. Whatever it is, it is shown first, without its
 * password, and nothing changes before the user takes it: links and other apps can only offer.
 */
class ConfigActivity : Screen() {
    internal lateinit var present: TextView
    internal lateinit var offered: TextView
    internal lateinit var take: Button
    internal lateinit var remove: Button

    private var config: VpnConfig? = null
    private var offer: ConfigInput? = null
    private var reading: Job? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        // Nothing of other apps may lie beside or over what the user decides by.
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) window.setHideOverlayWindows(true)
        build()
        @Suppress("DEPRECATION") // memory alone: the password is not for Android's saved states
        offer = lastNonConfigurationInstance as ConfigInput?
        render()
        if (offer == null) read(intent)
    }

    @Deprecated("Android's word for: use androidx")
    override fun onRetainNonConfigurationInstance(): Any? = offer

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        read(intent)
    }

    private fun build() {
        present = label()
        offered = label().apply { setTextIsSelectable(true) }
        take = BareButton(this).apply {
            setOnClickListener { (offer as? ConfigInput.Good)?.let { scope.launch { take(it) } } }
        }
        remove = button(Texts.REMOVE, ::offerToRemove)
        val content = column(
            label(Texts.HOW_TO_ADD),
            row(button(Texts.PASTE, ::paste), button(Texts.OPEN, ::openFile)),
            label(Texts.PRESENT, isBold = true),
            present,
            remove,
            label(Texts.OFFERED, isBold = true),
            offered,
            take,
        )
        show(ScrollView(this).apply { addView(content.padded()) })
    }

    override suspend fun CoroutineScope.whileVisible() {
        loadPresent()
    }

    private suspend fun loadPresent() {
        config = AnyTlsVpn.savedConfig(this)
        present.text = describe(config)
        render()
    }

    private fun render() {
        remove.visibility = if (config == null) View.GONE else View.VISIBLE
        take.visibility = if (offer is ConfigInput.Good) View.VISIBLE else View.GONE
        take.text = if (config == null) Texts.USE else Texts.REPLACE
        val lines = when (val offer = offer) {
            null -> return // what was said instead of one stays
            ConfigInput.Empty -> listOf(Texts.EMPTY_INPUT)
            is ConfigInput.Bad -> listOf(Texts.CANNOT_BE_USED) + problemLines(offer.problems)
            is ConfigInput.Good -> describe(offer.summary)
        }
        offered.text = lines.joinToString("\n")
    }

    private fun read(intent: Intent) {
        when (intent.action) {
            Intent.ACTION_VIEW -> intent.dataString?.let(::read)
            Intent.ACTION_SEND -> try {
                val document = intent.document()
                val text = intent.getCharSequenceExtra(Intent.EXTRA_TEXT)?.toString().orEmpty()
                if (document == null) read(text) else read(document)
            } catch (_: RuntimeException) { // unpacking is left to the reader, and the sender may have packed anything
                say(Texts.UNREADABLE)
            }
        }
    }

    /** Instead of an offer: there is none from now on. */
    private fun say(text: String) {
        reading?.cancel()
        offer = null
        offered.text = text
        render()
    }

    private fun read(text: String) {
        reading?.cancel()
        reading = scope.launch {
            offer = withContext(Dispatchers.Default) { ConfigInput.read(text) }
            render()
        }
    }

    private fun read(document: Uri) {
        reading?.cancel()
        reading = scope.launch {
            val text = withContext(Dispatchers.IO) { textOf(document) }
            if (text == null) say(Texts.UNREADABLE) else read(text)
        }
    }

    /** Only what another app holds: an address into this app's own files is not followed. */
    private fun textOf(document: Uri): String? = try {
        if (document.scheme != ContentResolver.SCHEME_CONTENT) throw IOException("not a document")
        contentResolver.openInputStream(document)?.use(ConfigInput::textOf)
    } catch (_: IOException) {
        null
    } catch (_: RuntimeException) { // whatever the other app throws comes through here
        null
    }

    private fun paste() {
        val clip = getSystemService(ClipboardManager::class.java)!!.primaryClip
        val text = clip?.takeIf { it.itemCount > 0 }?.getItemAt(0)?.text
        if (text == null) say(Texts.NOTHING_TO_PASTE) else read(text.toString())
    }

    private fun openFile() {
        // Any type: few phones know what JSON is.
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*")
        try {
            @Suppress("DEPRECATION") // its successor is in androidx
            startActivityForResult(intent, DOCUMENT)
        } catch (_: ActivityNotFoundException) { // a phone without files, such as a TV
            say(Texts.UNREADABLE)
        }
    }

    @Deprecated("Android's word for: use androidx")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        if (requestCode == DOCUMENT && resultCode == RESULT_OK) data?.data?.let(::read)
    }

    private fun offerToRemove() {
        AlertDialog.Builder(this)
            .setTitle(Texts.REMOVE_CONFIG)
            .setPositiveButton(Texts.REMOVE) { _, _ -> scope.launch { remove() } }
            .setNegativeButton(Texts.CANCEL, null)
            .show()
    }

    private suspend fun remove() {
        app.forget()
        loadPresent()
    }

    private suspend fun take(offer: ConfigInput.Good) {
        take.isEnabled = false
        val options = AnyTlsVpn.savedConfig(this)?.options ?: VpnOptions()
        val refusal = app.take(VpnConfig(offer.text, options))
        take.isEnabled = true
        if (refusal != null) {
            offered.text = refusal
            return
        }
        // Where another app brought the user here, there is no main screen to go back to.
        startActivity(Intent(this, MainActivity::class.java).addFlags(HOME))
        finish()
    }

    private companion object {
        const val DOCUMENT = 1
        const val HOME =
            Intent.FLAG_ACTIVITY_NEW_TASK or Intent.FLAG_ACTIVITY_CLEAR_TOP or Intent.FLAG_ACTIVITY_SINGLE_TOP
    }
}

/** Does not work through another app's window, nor while one hides what it is about. */
private class BareButton(context: Context) : Button(context) {
    init {
        filterTouchesWhenObscured = true
    }

    override fun onFilterTouchEventForSecurity(event: MotionEvent): Boolean {
        val isHidden = event.flags and MotionEvent.FLAG_WINDOW_IS_PARTIALLY_OBSCURED != 0
        return !isHidden && super.onFilterTouchEventForSecurity(event)
    }
}

private fun Intent.document(): Uri? = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU) {
    getParcelableExtra(Intent.EXTRA_STREAM, Uri::class.java)
} else {
    @Suppress("DEPRECATION")
    getParcelableExtra(Intent.EXTRA_STREAM)
}
