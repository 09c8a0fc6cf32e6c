package io.anytls.mobile.sample

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.Path
import android.view.View
import io.anytls.mobile.android.Speed
import io.anytls.mobile.sample.logic.Format
import io.anytls.mobile.sample.logic.SpeedBar
import io.anytls.mobile.sample.logic.SpeedGraphData
import io.anytls.mobile.sample.logic.Texts

/** The last minute: what came down as an area, what went up as a line, and the scale. */
class SpeedGraph(context: Context) : View(context) {
    var data = SpeedGraphData(emptyList(), 0)
        set(value) {
            field = value
            val now = value.bars.lastOrNull()?.speed ?: Speed(0, 0)
            contentDescription = Texts.graph(Format.speed(now))
            invalidate()
        }

    private val down = paint(DOWN_COLOR, Paint.Style.FILL)
    private val up = paint(UP_COLOR, Paint.Style.STROKE).apply { strokeWidth = dp(2).toFloat() }
    private val frame = paint(FRAME_COLOR, Paint.Style.STROKE)
    private val text = paint(FRAME_COLOR, Paint.Style.FILL).apply { textSize = dp(TEXT_DP).toFloat() }
    private val path = Path()

    override fun onMeasure(widthMeasureSpec: Int, heightMeasureSpec: Int) {
        setMeasuredDimension(MeasureSpec.getSize(widthMeasureSpec), resolveSize(dp(HEIGHT_DP), heightMeasureSpec))
    }

    override fun onDraw(canvas: Canvas) {
        if (data.bars.isNotEmpty()) {
            trace { it.downBytesPerSecond }
            path.lineTo(x(data.bars.last().to), bottom)
            path.lineTo(x(data.bars.first().from), bottom)
            path.close()
            canvas.drawPath(path, down)
            trace { it.upBytesPerSecond }
            canvas.drawPath(path, up)
        }
        canvas.drawRect(0f, 0f, width - 1f, bottom, frame)
        canvas.drawText(Format.speed(data.topBytesPerSecond), text.textSize / 2, text.textSize + text.descent(), text)
    }

    /** Level through each bar's time, and straight up or down between them. */
    private fun trace(speed: (Speed) -> Long) {
        path.rewind()
        data.bars.forEachIndexed { i, bar -> step(bar, speed(bar.speed), isFirst = i == 0) }
    }

    private fun step(bar: SpeedBar, bytesPerSecond: Long, isFirst: Boolean) {
        val y = bottom * (1f - bytesPerSecond.toFloat() / data.topBytesPerSecond)
        if (isFirst) path.moveTo(x(bar.from), y) else path.lineTo(x(bar.from), y)
        path.lineTo(x(bar.to), y)
    }

    private fun x(part: Float): Float = part * width

    private val bottom: Float get() = height - 1f

    private fun paint(color: Int, style: Paint.Style) = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        this.color = color
        this.style = style
    }

    private companion object {
        const val HEIGHT_DP = 120
        const val TEXT_DP = 12

        // Seen on black and on white.
        const val DOWN_COLOR = 0x801E88E5.toInt()
        const val UP_COLOR = 0xFFEF6C00.toInt()
        const val FRAME_COLOR = 0xFF888888.toInt()
    }
}
