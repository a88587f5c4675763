// What the page does in the browser alone.
window.dash_clientside = Object.assign({}, window.dash_clientside, {
    explore: {
        // The table asks for its rows again when the filter, the rules or the decisions have changed.
        refreshTable: function () {
            try {
                dash_ag_grid.getApi("table").purgeInfiniteCache();
            } catch (error) {
                // The table is not drawn yet; it will ask for rows when it is.
            }
            return window.dash_clientside.no_update;
        },
    },
});
