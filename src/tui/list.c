/* list.c: selection and scrolling. */
#include "tui/list.h"

void list_count(struct list *l, size_t count)
{
    l->count = count;
    if (l->selected >= count)
        l->selected = count ? count - 1 : 0;
}

void list_move(struct list *l, ptrdiff_t delta)
{
    if (!l->count)
        return;
    if (delta < 0)
        l->selected -= (size_t)-delta < l->selected ? (size_t)-delta : l->selected;
    else
        l->selected += (size_t)delta < l->count - 1 - l->selected ? (size_t)delta : l->count - 1 - l->selected;
}

void list_show(struct list *l, int rows, enum list_scroll jump)
{
    size_t page = rows > 0 ? (size_t)rows : 1, extra = jump == LIST_HALVES ? page / 2 : jump == LIST_PAGES ? page - 1 : 0;
    if (l->selected < l->top)
        l->top = l->selected > extra ? l->selected - extra : 0;
    else if (l->selected >= l->top + page)
        l->top = l->selected - page + 1 + extra;
    if (l->top + page > l->count)
        l->top = l->count > page ? l->count - page : 0;
}
