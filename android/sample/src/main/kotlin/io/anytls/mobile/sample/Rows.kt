package io.anytls.mobile.sample

import android.view.View
import android.view.ViewGroup
import android.widget.BaseAdapter

/** A list whose items are replaced as a whole. [view] makes or reuses the view of one. */
class Rows<T>(private val view: (item: T, old: View?, list: ViewGroup) -> View) : BaseAdapter() {
    private var items: List<T> = emptyList()

    fun show(items: List<T>) {
        this.items = items
        notifyDataSetChanged()
    }

    operator fun get(position: Int): T = items[position]

    override fun getCount(): Int = items.size

    override fun getItem(position: Int): Any? = items[position]

    override fun getItemId(position: Int): Long = position.toLong()

    override fun getView(position: Int, convertView: View?, parent: ViewGroup): View =
        view(items[position], convertView, parent)
}
