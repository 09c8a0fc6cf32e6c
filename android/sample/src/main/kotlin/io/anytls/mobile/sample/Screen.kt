package io.anytls.mobile.sample

import android.app.Activity
import android.content.Context
import android.graphics.Typeface
import android.os.Bundle
import android.view.View
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.Button
import android.widget.FrameLayout
import android.widget.LinearLayout
import android.widget.TextView
import io.anytls.mobile.android.VpnConfig
import io.anytls.mobile.sample.logic.ConfigInput
import io.anytls.mobile.sample.logic.Server
import io.anytls.mobile.sample.logic.Texts
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.MainScope
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

/** A screen, with views that are built in code and coroutines that end with it. */
abstract class Screen : Activity() {
    /** Until the screen is destroyed. */
    protected val scope: CoroutineScope = MainScope()
    private var visible: Job? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        actionBar?.setDisplayHomeAsUpEnabled(this !is MainActivity)
    }

    override fun onStart() {
        super.onStart()
        visible = scope.launch { whileVisible() }
    }

    override fun onStop() {
        visible?.cancel()
        super.onStop()
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }

    /** What the screen follows; cancelled when it is hidden. */
    protected open suspend fun CoroutineScope.whileVisible() {}

    /** From Android 15 on windows lie below the system's bars. The frame's padding is what keeps clear of them. */
    protected fun show(content: View) {
        val frame = FrameLayout(this)
        frame.fitsSystemWindows = true
        frame.addView(content)
        setContentView(frame)
    }
}

/** The server of a config; parsing takes its time, and so does not happen on the main thread. */
suspend fun describe(config: VpnConfig?): String {
    val input = withContext(Dispatchers.Default) { config?.let { ConfigInput.read(it.text) } }
    return (input as? ConfigInput.Good)?.let { Server.of(it.summary).toString() } ?: Texts.NO_SERVER
}

/** One below the other, each as high as it wants to be, or as it was told before. */
fun Context.column(vararg views: View): LinearLayout = LinearLayout(this).apply {
    orientation = LinearLayout.VERTICAL
    for (view in views) addView(view, view.layoutParams ?: LinearLayout.LayoutParams(MATCH_PARENT, WRAP_CONTENT))
}

/** Side by side, as wide as each other. */
fun Context.row(vararg views: View): LinearLayout = LinearLayout(this).apply {
    for (view in views) addView(view, LinearLayout.LayoutParams(0, WRAP_CONTENT, 1f))
}

fun LinearLayout.padded(): LinearLayout = apply {
    val padding = dp(PADDING_DP)
    setPadding(padding, padding, padding, padding)
}

/** Gives a view in a column whatever height is left. */
fun View.fillingTheRest(): View = apply { layoutParams = LinearLayout.LayoutParams(MATCH_PARENT, 0, 1f) }

fun Context.label(text: String = "", sizeSp: Float = 16f, isBold: Boolean = false): TextView = TextView(this).apply {
    this.text = text
    textSize = sizeSp
    if (isBold) typeface = Typeface.DEFAULT_BOLD
    setPadding(0, dp(GAP_DP), 0, dp(GAP_DP))
}

fun Context.button(text: String, onClick: () -> Unit): Button = Button(this).apply {
    this.text = text
    setOnClickListener { onClick() }
}

fun View.dp(count: Int): Int = (count * resources.displayMetrics.density).toInt()

/** Shown when there is something to show. */
fun TextView.show(text: String) {
    this.text = text
    visibility = if (text.isEmpty()) View.GONE else View.VISIBLE
}

private const val PADDING_DP = 16
private const val GAP_DP = 4
