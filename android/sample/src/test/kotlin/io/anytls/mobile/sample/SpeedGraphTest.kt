package io.anytls.mobile.sample

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.view.View.MeasureSpec
import io.anytls.mobile.android.Speed
import io.anytls.mobile.sample.logic.SpeedBar
import io.anytls.mobile.sample.logic.SpeedGraphData
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Pixel by pixel. */
class SpeedGraphTest : SampleTest() {
    private val graph by lazy { SpeedGraph(app) }

    @Test
    fun nothing_counted_is_an_empty_frame() {
        val picture = draw(SpeedGraphData(emptyList(), TOP))

        assertEquals(Color.TRANSPARENT, picture.getPixel(WIDTH / 2, HEIGHT / 2))
    }

    @Test
    fun what_came_down_is_an_area_as_high_as_the_speed() {
        // Nothing until the middle, and half the scale from there on.
        val bars = listOf(SpeedBar(0f, 0.5f, Speed(0, 0)), SpeedBar(0.5f, 1f, Speed(0, TOP / 2)))
        val picture = draw(SpeedGraphData(bars, TOP))

        assertEquals(Color.TRANSPARENT, picture.getPixel(WIDTH / 4, HEIGHT * 3 / 4))
        assertNotEquals(Color.TRANSPARENT, picture.getPixel(WIDTH * 3 / 4, HEIGHT * 3 / 4))
        assertEquals(Color.TRANSPARENT, picture.getPixel(WIDTH * 3 / 4, HEIGHT / 4))
    }

    @Test
    fun what_went_up_is_a_line_at_the_speed() {
        val picture = draw(SpeedGraphData(listOf(SpeedBar(0f, 1f, Speed(TOP / 2, 0))), TOP))

        assertNotEquals(Color.TRANSPARENT, picture.getPixel(WIDTH / 2, HEIGHT / 2))
        assertEquals(Color.TRANSPARENT, picture.getPixel(WIDTH / 2, HEIGHT * 3 / 4))
    }

    @Test
    fun whoever_cannot_see_it_is_told_the_speed() {
        draw(SpeedGraphData(listOf(SpeedBar(0f, 1f, Speed(1500, 20_000))), TOP))

        assertTrue("${graph.contentDescription}", graph.contentDescription.endsWith("↑ 1.5 kB/s   ↓ 20.0 kB/s"))
    }

    private fun draw(data: SpeedGraphData): Bitmap {
        graph.data = data
        graph.measure(
            MeasureSpec.makeMeasureSpec(WIDTH, MeasureSpec.EXACTLY),
            MeasureSpec.makeMeasureSpec(HEIGHT, MeasureSpec.EXACTLY),
        )
        graph.layout(0, 0, WIDTH, HEIGHT)
        return Bitmap.createBitmap(WIDTH, HEIGHT, Bitmap.Config.ARGB_8888).also { graph.draw(Canvas(it)) }
    }

    private companion object {
        const val WIDTH = 400
        const val HEIGHT = 200
        const val TOP = 50_000L
    }
}
